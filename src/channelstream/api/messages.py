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
from channelstream.api.schemas import NO_RECIPIENT, DeleteBody, EditBody, MessageBody
from channelstream.apps.keys import name_of
from channelstream.core.events import Event, Message, MessageDeleted, MessageEdited, Names
from channelstream.core.log import Accepted
from channelstream.core.timestamps import stamp
from channelstream.errors import Invalid
from channelstream.http.parts import Parts, encode
from channelstream.slices import Slices

_KEY_NAMESPACE = UUID("5b0a57f6-5a3e-4f0f-9a5e-5f6c1c4e8a01")
"""Namespace of the message ids that are derived from an Idempotency-Key."""

Answer = dict[str, Any]


CHUNK = 100
"""Messages of a list that are sent and answered in one event loop turn: 1 to 2 ms (measured)."""

STEP = 5
"""Messages between two looks at the clock: each may have very many recipients."""

Body = MessageBody | EditBody | DeleteBody
B = TypeVar("B", bound=Body)
E = TypeVar("E", bound=Event)
Result = Answer | list[Answer] | Parts
"""The answer for one message, for a list, or for a long list (encoded already)."""


async def publish(call: Call) -> Result:
    """Publish messages. One invalid item refuses all; if the engine fails between two parts, the earlier ones are sent."""
    bodies, many = await _read(call, MessageBody)
    now = stamp(call.service.clock.wall())
    key, new_id, numbers = call.key, call.service.new_id, count()

    def make_event(body: MessageBody) -> Message:
        number = next(numbers)
        return _message_event(body, body.uuid or (_id_from_key(key, number) if key else new_id()), now)

    return await _send_bodies(
        call, bodies, many, _Publisher(make_event, call.service.publish, _publish_answer)
    )


async def edit(call: Call) -> Result:
    """Edit messages, and send the edits to their recipients."""
    bodies, many = await _read(call, EditBody)
    now = stamp(call.service.clock.wall())

    def make_event(body: EditBody) -> MessageEdited:
        return _edit_event(body, now)

    return await _send_bodies(call, bodies, many, _Publisher(make_event, call.service.change, _edit_answer))


async def delete(call: Call) -> Result:
    """Delete messages, and send the deletions to their recipients."""
    bodies, many = await _read(call, DeleteBody)
    return await _send_bodies(
        call, bodies, many, _Publisher(_delete_event, call.service.change, _edit_answer)
    )


async def _read(call: Call, schema: type[B]) -> tuple[list[B], bool]:
    """Return the messages of the body, and whether the body is a list.

    Raises:
        Invalid: the body is a single object without recipient. In a list such an item is skipped: the older
            generations do so.
    """
    bodies, many = await read_one_or_many(call.body, schema, call.limits.messages, call.slices, call.walker)
    if not many and not _is_addressed(bodies[0]):
        raise Invalid({"channel": [NO_RECIPIENT]})
    return bodies, many


def _is_addressed(body: Body) -> bool:
    return body.channel is not None or bool(body.pm_users)


@dataclass(slots=True)
class _Publisher(Generic[B, E]):
    """Turns bodies into events, sends them, and turns the outcomes into answers."""

    make_event: Callable[[B], E]
    send: Callable[[Sequence[E]], Awaitable[Sequence[Accepted]]]
    to_answer: Callable[[B, Accepted], Answer]

    async def send_all(self, bodies: Sequence[B], slices: Slices) -> list[Answer]:
        await slices.due()
        events = await slices.each(bodies, self.make_event, STEP)
        addressed = [pair for pair in zip(bodies, events, strict=True) if _is_addressed(pair[0])]
        await slices.due()
        accepted = await self.send([event for _, event in addressed])
        await slices.due()
        return [self.to_answer(body, outcome) for (body, _), outcome in zip(addressed, accepted, strict=True)]


async def _send_bodies(call: Call, bodies: list[B], many: bool, publisher: _Publisher[B, E]) -> Result:
    """Send the bodies; a long list chunk by chunk, so that other work runs between the chunks."""
    if not many:
        [outcome] = await publisher.send([publisher.make_event(bodies[0])])
        return publisher.to_answer(bodies[0], outcome)
    if len(bodies) <= CHUNK:
        return await publisher.send_all(bodies, call.slices)
    chunks = [chunk async for chunk in _chunks(call.slices, bodies, publisher) if chunk]
    return Parts([b"[", *(part for chunk in chunks[:-1] for part in (chunk, b",")), *chunks[-1:], b"]"])


async def _chunks(slices: Slices, bodies: list[B], publisher: _Publisher[B, E]) -> AsyncIterator[bytes]:
    """Send the bodies chunk by chunk, and yield the JSON of each chunk's answers without brackets.

    `bodies` is emptied meanwhile, so that the memory of a long list is freed early.
    """
    bodies.reverse()
    while bodies:
        chunk = bodies[: -CHUNK - 1 : -1]
        del bodies[-CHUNK:]
        yield encode(await publisher.send_all(chunk, slices))[1:-1]


def _id_from_key(key: str, number: int) -> str:
    """Return the id of a message: the same for each repetition of the request with the same key."""
    return str(uuid5(_KEY_NAMESPACE, f"{key}\0{number}"))


def _message_event(body: MessageBody, uuid: str, now: str) -> Message:
    return Message(
        uuid=uuid,
        channel=body.channel,
        only=_names(body.pm_users),
        exclude=_names(body.exclude_users),
        user=body.user,
        payload=b"null" if body.message is UNSET else encode(body.message),
        timestamp=body.timestamp or now,
        no_history=body.no_history,
    )


def _edit_event(body: EditBody, now: str) -> MessageEdited:
    return MessageEdited(
        uuid=body.uuid,
        channel=body.channel,
        only=_names(body.pm_users),
        exclude=_names(body.exclude_users),
        edited=body.edited or now,
        user=body.user or None,
        payload=None if body.message is UNSET else encode(body.message),
        timestamp=body.timestamp or None,
    )


def _delete_event(body: DeleteBody) -> MessageDeleted:
    return MessageDeleted(
        uuid=body.uuid, channel=body.channel, only=_names(body.pm_users), exclude=_names(body.exclude_users)
    )


def _names(names: Sequence[str]) -> Names | None:
    return frozenset(names) if names else None


def _publish_answer(body: MessageBody, outcome: Accepted) -> Answer:
    event: Any = outcome.event
    answer: Answer = {
        "pm_users": body.pm_users,
        "exclude_users": body.exclude_users,
        "channel": None if event.channel is None else name_of(event.channel),
        "no_history": body.no_history,
        "uuid": event.uuid,
        "timestamp": event.timestamp,
        "user": name_of(event.user),
        "edited": event.edited,
    }
    if body.message is not UNSET:
        answer["message"] = msgspec.Raw(event.payload)
    if outcome.duplicate and not outcome.found:
        answer["deleted"] = True
    return answer


def _edit_answer(body: EditBody | DeleteBody, outcome: Accepted) -> Answer:
    answer: Answer = msgspec.to_builtins(body) | {"found": outcome.found}
    if isinstance(outcome.event, MessageEdited):
        answer["edited"] = outcome.event.edited
    return answer
