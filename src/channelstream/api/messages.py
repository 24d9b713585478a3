"""`/message`: publish, edit and delete."""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid5

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from channelstream.api.answers import MessageAnswer
from channelstream.api.call import Call, finished
from channelstream.api.fields import NO_RECIPIENT
from channelstream.api.lists import read_at_once, read_one_or_many
from channelstream.api.schemas import DeleteBody, EditBody, MessageBody
from channelstream.apps.keys import name_of
from channelstream.core.accepted import Accepted
from channelstream.core.events import Event, Message, MessageDeleted, MessageEdited, Names
from channelstream.core.timestamps import stamp
from channelstream.errors import Invalid
from channelstream.http.parts import Parts, encode
from channelstream.service import Service
from channelstream.slices import SET_STEP, turn_for

_KEY_NAMESPACE = UUID("5b0a57f6-5a3e-4f0f-9a5e-5f6c1c4e8a01")
"""Namespace of the message ids that are derived from an Idempotency-Key."""

Answer = MessageAnswer | dict[str, Any]

CHUNK = 100
"""Messages of a list that are sent and answered in one event loop turn: 1 to 2 ms (measured)."""

STEP = 5
"""Messages between two looks at the clock: each may have very many recipients."""

Body = MessageBody | EditBody | DeleteBody
B = TypeVar("B", bound=Body)
E = TypeVar("E", bound=Event)
Result = Answer | list[Answer] | Parts
"""The answer for one message, for a list, or for a long list (encoded already)."""


class _Given:
    """The values that the server gives the messages of a call that have none of their own."""

    __slots__ = ("_call", "_key", "_new_id", "_number", "now")

    def __init__(self, call: Call, key: str) -> None:
        """Start before the first message.

        Args:
            key: the Idempotency-Key; empty if there is none.
        """
        self.now = stamp(call.service.clock.wall())
        self._call = call
        self._key = key
        self._new_id = call.service.new_id
        self._number = -1

    def uuid(self, own: str | UnsetType) -> str:
        """Return the id of the next message: its own one if it has one."""
        self._number += 1
        return own or (_id_from_key(self._key, self._number) if self._key else self._new_id())

    def traceparent(self) -> str | None:
        """Return the trace context of the call; None if it has none."""
        return self._call.traceparent


@dataclass(frozen=True, slots=True)
class _Kind(Generic[B, E]):
    """How a method of `/message` turns bodies into events, sends them, and turns the outcomes into answers."""

    schema: type[B]
    make_event: Callable[[B, _Given], E]
    send: Callable[[Service, Sequence[E]], Awaitable[Sequence[Accepted]]]
    send_one: Callable[[Service, E], Accepted | Awaitable[Accepted]]
    to_answer: Callable[[B, Accepted], Answer]


def publish(call: Call) -> Result | Coroutine[Any, Any, Result]:
    """Publish messages. One invalid item refuses all; if the engine fails between two parts, the earlier ones are sent."""
    return _change(call, _PUBLISH, call.key)


def edit(call: Call) -> Result | Coroutine[Any, Any, Result]:
    """Edit messages, and send the edits to their recipients."""
    return _change(call, _EDIT)


def delete(call: Call) -> Result | Coroutine[Any, Any, Result]:
    """Delete messages, and send the deletions to their recipients."""
    return _change(call, _DELETE)


def _change(call: Call, kind: _Kind[B, E], key: str = "") -> Result | Coroutine[Any, Any, Result]:
    """Send the messages of the body, and answer in its form, one object or a list; at once, if nothing has to wait.

    Raises:
        Invalid: the body is a single object without recipient. In a list such an item is skipped: the older
            generations do so.
    """
    read = read_at_once(call.body, kind.schema, call.service.app.limits.messages)
    if read is None:
        return _read_and_send(call, kind, key)
    return _send(call, kind, key, *read)


async def _read_and_send(call: Call, kind: _Kind[B, E], key: str) -> Result:
    """Send the messages of a body that has to wait until it is read, and answer as `_change` does."""
    limit = call.limits.messages
    bodies, many = await read_one_or_many(call.body, kind.schema, limit, call.slices, call.walker)
    sent: Result = await finished(_send(call, kind, key, bodies, many))
    return sent


def _send(
    call: Call, kind: _Kind[B, E], key: str, bodies: list[B], many: bool
) -> Result | Coroutine[Any, Any, Result]:
    if call.key_rate is not None:
        call.key_rate.check_messages(len(bodies))
    if len(bodies) != 1:
        return _Sender(call, kind, key).send_list(bodies)
    [body] = bodies
    if body.pm_users:
        return _answer_later(kind, body, _send_private(call, kind, key, body), many)
    if body.channel is None:
        if many:
            return []
        raise Invalid({"channel": [NO_RECIPIENT]})
    # Without `call.slices`: to publish for a channel is one short step.
    outcome = kind.send_one(call.service, kind.make_event(body, _Given(call, key)))
    if not isinstance(outcome, Accepted):
        return _answer_later(kind, body, outcome, many)
    answer = kind.to_answer(body, outcome)
    return [answer] if many else answer


async def _send_private(call: Call, kind: _Kind[B, E], key: str, body: B) -> Accepted:
    """Send a body for some users, who may be very many."""
    await turn_for(len(body.pm_users))
    event = kind.make_event(body, _Given(call, key))
    if len(body.pm_users) > SET_STEP:
        event = await _with_users(call, event, body)
    [outcome] = await kind.send(call.service, [event])
    return outcome


async def _answer_later(kind: _Kind[B, E], body: B, awaited: Awaitable[Accepted], many: bool) -> Result:
    """Return the answer for a body whose outcome is not there yet."""
    answer = kind.to_answer(body, await awaited)
    return [answer] if many else answer


class _Sender(Generic[B, E]):
    """Sends the messages of one call."""

    __slots__ = ("_call", "_given", "_kind")

    def __init__(self, call: Call, kind: _Kind[B, E], key: str) -> None:
        self._call = call
        self._kind = kind
        self._given = _Given(call, key)

    async def send_list(self, bodies: list[B]) -> Result:
        """Send a list; a long one chunk by chunk, so that other work runs between the chunks."""
        if len(bodies) <= CHUNK:
            return await self.send_all(bodies)
        chunks = [chunk async for chunk in self.send_chunks(bodies) if chunk]
        return Parts([b"[", *(part for chunk in chunks[:-1] for part in (chunk, b",")), *chunks[-1:], b"]"])

    async def send_all(self, bodies: Sequence[B]) -> list[Answer]:
        """Send a list in short loop turns."""
        kind, slices = self._kind, self._call.slices
        await slices.due()
        events = await slices.each(bodies, self._make_event, STEP)
        for number, body in enumerate(bodies):
            if len(body.pm_users) > SET_STEP:
                events[number] = await _with_users(self._call, events[number], body)
        pairs = zip(bodies, events, strict=True)
        addressed = [pair for pair in pairs if pair[0].channel is not None or pair[0].pm_users]
        await slices.due()
        accepted = await kind.send(self._call.service, [event for _, event in addressed])
        await slices.due()
        return [kind.to_answer(body, outcome) for (body, _), outcome in zip(addressed, accepted, strict=True)]

    async def send_chunks(self, bodies: list[B]) -> AsyncIterator[bytes]:
        """Send the bodies chunk by chunk, and yield the JSON of each chunk's answers without brackets.

        `bodies` is emptied meanwhile, so that the memory of a long list is freed early.
        """
        bodies.reverse()
        while bodies:
            chunk = bodies[: -CHUNK - 1 : -1]
            del bodies[-CHUNK:]
            yield encode(await self.send_all(chunk))[1:-1]

    def _make_event(self, body: B) -> E:
        return self._kind.make_event(body, self._given)


async def _with_users(call: Call, event: E, body: B) -> E:
    """Return an event with its very many users."""
    return replace(event, only=await call.slices.set_of(body.pm_users))


def _users(names: list[str]) -> Names | None:
    """Return the users of an event; None also if they are very many, since these take several turns (`_with_users`)."""
    return frozenset(names) or None if len(names) <= SET_STEP else None


def _id_from_key(key: str, number: int) -> str:
    """Return the id of a message: the same for each repetition of the request with the same key."""
    return str(uuid5(_KEY_NAMESPACE, f"{key}\0{number}"))


def _message_event(body: MessageBody, given: _Given) -> Message:
    return Message(
        uuid=given.uuid(body.uuid),
        channel=body.channel,
        only=_users(body.pm_users) if body.pm_users else None,
        exclude=frozenset(body.exclude_users) if body.exclude_users else None,
        user=body.user,
        payload=b"null" if body.message is UNSET else encode(body.message),
        timestamp=body.timestamp or given.now,
        no_history=body.no_history,
        traceparent=given.traceparent() if body.include_traceparent else None,
    )


def _edit_event(body: EditBody, given: _Given) -> MessageEdited:
    return MessageEdited(
        uuid=body.uuid,
        channel=body.channel,
        only=_users(body.pm_users),
        exclude=frozenset(body.exclude_users) or None,
        edited=body.edited or given.now,
        user=body.user or None,
        payload=None if body.message is UNSET else encode(body.message),
        timestamp=body.timestamp or None,
    )


def _delete_event(body: DeleteBody, _: _Given) -> MessageDeleted:
    return MessageDeleted(
        uuid=body.uuid,
        channel=body.channel,
        only=_users(body.pm_users),
        exclude=frozenset(body.exclude_users) or None,
    )


def _publish_answer(body: MessageBody, outcome: Accepted) -> Answer:
    event: Any = outcome.event
    return MessageAnswer(
        pm_users=body.pm_users,
        exclude_users=body.exclude_users,
        channel=body.channel,
        no_history=body.no_history,
        uuid=event.uuid,
        timestamp=event.timestamp,
        user=name_of(event.user),
        edited=event.edited,
        message=UNSET if body.message is UNSET else msgspec.Raw(event.payload),
        deleted=True if outcome.duplicate and not outcome.found else UNSET,
    )


async def _change_one(service: Service, change: MessageEdited | MessageDeleted) -> Accepted:
    [outcome] = await service.change([change])
    return outcome


def _edit_answer(body: EditBody | DeleteBody, outcome: Accepted) -> Answer:
    answer: dict[str, Any] = msgspec.to_builtins(body) | {"found": outcome.found}
    if isinstance(outcome.event, MessageEdited):
        answer["edited"] = outcome.event.edited
    return answer


_PUBLISH = _Kind(MessageBody, _message_event, Service.publish, Service.publish_one, _publish_answer)
_EDIT = _Kind(EditBody, _edit_event, Service.change, _change_one, _edit_answer)
_DELETE = _Kind(DeleteBody, _delete_event, Service.change, _change_one, _edit_answer)
