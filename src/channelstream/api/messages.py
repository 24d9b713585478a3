"""`/message`: publish, edit and delete."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid5

import msgspec
from msgspec import UNSET

from channelstream.api.call import Call
from channelstream.api.lists import read_one_or_many
from channelstream.api.schemas import NOBODY, DeleteBody, EditBody, MessageBody
from channelstream.asgi import Parts
from channelstream.core.events import Event, Message, MessageDeleted, MessageEdited, Names
from channelstream.core.timestamps import stamp
from channelstream.engines.base import Accepted
from channelstream.errors import Invalid
from channelstream.slices import Slices

_KEYS = UUID("5b0a57f6-5a3e-4f0f-9a5e-5f6c1c4e8a01")
"""Namespace of the message ids that are made from an Idempotency-Key."""

_encode = msgspec.json.Encoder().encode
Answer = dict[str, Any]


CHUNK = 100
"""Messages made, accepted and answered at a stretch: 1 to 2 ms (measured)."""

Body = MessageBody | EditBody | DeleteBody
B = TypeVar("B", bound=Body)
Send = Callable[[Sequence[Event]], Awaitable[Sequence[Accepted]]]
Told = Answer | list[Answer] | Parts
"""An answer: for one, for some, or for very many, whose answer is JSON already."""


async def publish(call: Call) -> Told:
    """Send messages, all or none of them."""
    bodies, many = await _read(call, MessageBody)
    now = stamp(call.node.clock.wall())
    key, new_id, numbers = call.key, call.node.new_id, count()

    def made(body: MessageBody) -> Message:
        number = next(numbers)
        return _message(body, body.uuid or (_keyed_id(key, number) if key else new_id()), now)

    return await _sent(call, bodies, many, _Sending(made, call.node.publish, _published))


async def edit(call: Call) -> Told:
    """Change messages, and tell whoever heard them."""
    bodies, many = await _read(call, EditBody)
    now = stamp(call.node.clock.wall())

    def made(body: EditBody) -> MessageEdited:
        return _edited(body, now)

    return await _sent(call, bodies, many, _Sending(made, call.node.send, _sent_on))


async def delete(call: Call) -> Told:
    """Take messages back, and tell whoever heard them."""
    bodies, many = await _read(call, DeleteBody)
    return await _sent(call, bodies, many, _Sending(_deleted, call.node.send, _sent_on))


async def _read(call: Call, schema: type[B]) -> tuple[list[B], bool]:
    """Read what the body holds.

    Raises:
        Invalid: a single object is for nobody.
    """
    bodies, many = await read_one_or_many(call.body, schema, call.limits.messages, call.turns)
    if not many and not _is_addressed(bodies[0]):
        raise Invalid({"channel": [NOBODY]})
    return bodies, many


def _is_addressed(body: Body) -> bool:
    return body.channel is not None or bool(body.pm_users)


@dataclass(slots=True)
class _Sending(Generic[B]):
    """From bodies to answers: what makes an event of a body, what sends events, and what answers."""

    made: Callable[[B], Event]
    send: Send
    told: Callable[[B, Accepted], Answer]

    async def of(self, bodies: Sequence[B]) -> list[Answer]:
        events = [self.made(body) for body in bodies]
        addressed = [each for each in zip(bodies, events, strict=True) if _is_addressed(each[0])]
        accepted = await self.send([event for _, event in addressed])
        return [self.told(body, kept) for (body, _), kept in zip(addressed, accepted, strict=True)]


async def _sent(call: Call, bodies: list[B], many: bool, sending: _Sending[B]) -> Told:
    """Send what was read; of very many, chunk by chunk, so that others have their turn between."""
    if not many:
        [kept] = await sending.send([sending.made(bodies[0])])
        return sending.told(bodies[0], kept)
    if len(bodies) <= CHUNK:
        return await sending.of(bodies)
    told = [part async for part in _chunks(call.turns, bodies, sending) if part]
    return Parts([b"[", *(part for each in told[:-1] for part in (each, b",")), *told[-1:], b"]"])


async def _chunks(turns: Slices, bodies: list[B], sending: _Sending[B]) -> AsyncIterator[bytes]:
    """Send the bodies, which are given up as it goes, and return their answers' JSON without brackets."""
    bodies.reverse()
    while bodies:
        chunk = bodies[: -CHUNK - 1 : -1]
        del bodies[-CHUNK:]
        yield _encode(await sending.of(chunk))[1:-1]
        await turns.due()


def _keyed_id(key: str, number: int) -> str:
    """Return the id that a request's message has whenever the request is repeated with the same key."""
    return str(uuid5(_KEYS, f"{key}\0{number}"))


def _message(body: MessageBody, uuid: str, now: str) -> Message:
    return Message(
        uuid=uuid,
        channel=body.channel,
        only=_names(body.pm_users),
        exclude=_names(body.exclude_users),
        user=body.user,
        payload=b"null" if body.message is UNSET else _encode(body.message),
        timestamp=body.timestamp or now,
        no_history=body.no_history,
    )


def _edited(body: EditBody, now: str) -> MessageEdited:
    return MessageEdited(
        uuid=body.uuid,
        channel=body.channel,
        only=_names(body.pm_users),
        exclude=_names(body.exclude_users),
        edited=body.edited or now,
        user=body.user or None,
        payload=None if body.message is UNSET else _encode(body.message),
        timestamp=body.timestamp or None,
    )


def _deleted(body: DeleteBody) -> MessageDeleted:
    return MessageDeleted(
        uuid=body.uuid, channel=body.channel, only=_names(body.pm_users), exclude=_names(body.exclude_users)
    )


def _names(names: Sequence[str]) -> Names | None:
    return frozenset(names) if names else None


def _published(body: MessageBody, kept: Accepted) -> Answer:
    event: Any = kept.event
    answer: Answer = {
        "pm_users": body.pm_users,
        "exclude_users": body.exclude_users,
        "channel": event.channel,
        "no_history": body.no_history,
        "uuid": event.uuid,
        "timestamp": event.timestamp,
        "user": event.user,
        "edited": event.edited,
    }
    if body.message is not UNSET:
        answer["message"] = msgspec.Raw(event.payload)
    if kept.duplicate and not kept.found:
        answer["deleted"] = True
    return answer


def _sent_on(body: EditBody | DeleteBody, kept: Accepted) -> Answer:
    answer: Answer = msgspec.to_builtins(body) | {"found": kept.found}
    if isinstance(kept.event, MessageEdited):
        answer["edited"] = kept.event.edited
    return answer
