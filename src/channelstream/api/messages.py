"""`/message`: publish, edit and delete."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid5

import msgspec
from msgspec import UNSET

from channelstream.api.call import Call
from channelstream.api.schemas import DeleteBody, EditBody, MessageBody
from channelstream.api.validation import decode_one_or_many
from channelstream.core.events import Message, MessageDeleted, MessageEdited, Names
from channelstream.core.timestamps import stamp

_KEYS = UUID("5b0a57f6-5a3e-4f0f-9a5e-5f6c1c4e8a01")
"""Namespace of the message ids that are made from an Idempotency-Key."""

_encode = msgspec.json.Encoder().encode
Answer = dict[str, Any]


async def publish(call: Call) -> Answer | list[Answer]:
    """Send messages, all or none of them."""
    bodies, many = decode_one_or_many(call.body, MessageBody)
    now = stamp(call.node.clock.wall())
    key, new_id = call.key, call.node.new_id
    events = [
        _message(body, body.uuid or (_keyed_id(key, number) if key else new_id()), now)
        for number, body in enumerate(bodies)
    ]
    accepted = iter(await call.node.publish([event for event in events if _is_addressed(event)]))
    answers = []
    for body, event in zip(bodies, events, strict=True):
        became = next(accepted) if _is_addressed(event) else None
        answer = _published(body, became.event if became else event)
        if became and became.repeated and not became.found:
            answer["deleted"] = True
        answers.append(answer)
    return answers if many else answers[0]


async def edit(call: Call) -> Answer | list[Answer]:
    """Change messages, and tell whoever heard them."""
    bodies, many = decode_one_or_many(call.body, EditBody)
    now = stamp(call.node.clock.wall())
    return await _send_on(call, bodies, [_edited(body, now) for body in bodies], many)


async def delete(call: Call) -> Answer | list[Answer]:
    """Take messages back, and tell whoever heard them."""
    bodies, many = decode_one_or_many(call.body, DeleteBody)
    return await _send_on(call, bodies, [_deleted(body) for body in bodies], many)


async def _send_on(
    call: Call,
    bodies: Sequence[EditBody | DeleteBody],
    events: Sequence[MessageEdited | MessageDeleted],
    many: bool,
) -> Answer | list[Answer]:
    accepted = iter(await call.node.engine.publish([event for event in events if _is_addressed(event)]))
    answers = []
    for body, event in zip(bodies, events, strict=True):
        told = msgspec.to_builtins(body) | {"found": _is_addressed(event) and next(accepted).found}
        if isinstance(event, MessageEdited):
            told["edited"] = event.edited
        answers.append(told)
    return answers if many else answers[0]


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
        edited=now,
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


def _is_addressed(event: Message | MessageEdited | MessageDeleted) -> bool:
    """An item without channel and users is for nobody; the older generations let it pass in silence."""
    return event.channel is not None or event.only is not None


def _published(body: MessageBody, event: Any) -> Answer:
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
    return answer
