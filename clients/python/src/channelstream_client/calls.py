"""Every method of the clients as a plan: a generator that yields calls, receives their replies, and returns the result.

This module does no I/O. `exchange` turns the calls of a plan into signed requests, and `client` sends them.
"""

import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import datetime
from typing import Any, TypeVar
from uuid import uuid4

from channelstream_client.errors import ChannelstreamError, PartlySent
from channelstream_client.model import (
    Change,
    Channels,
    ChannelSettings,
    Connection,
    Info,
    Message,
    SentMessage,
    State,
    StateChange,
    Subscribed,
    Unsubscribed,
    UserState,
)
from channelstream_client.names import LISTS, NO_LISTS, listed
from channelstream_client.reading import read, read_bool, read_list, read_number

MAX_BATCH_MESSAGES = 500
"""Most messages in one request of `publish_many`."""
MAX_BATCH_BYTES = 1 << 20
"""Longest body of one request of `publish_many`, unless a single message is longer: a quarter of the server's
default limit (`max_body_bytes`)."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the API. It is safe to repeat, because ids are created before the first attempt."""

    method: str
    path: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a call.

    Attributes:
        body: the JSON of the answer.
        repeated: an earlier attempt got no answer, and may have taken effect.
    """

    body: Any
    repeated: bool


T = TypeVar("T")
Plan = Generator[Call, Reply, T]


def connect(
    username: str,
    channels: Iterable[str] = (),
    *,
    conn_id: str | None = None,
    user_state: State | None = None,
    fresh_user_state: State | None = None,
    state_public_keys: Sequence[str] | None = None,
    channel_configs: Mapping[str, ChannelSettings] | None = None,
    info: Info | None = None,
    since: str | None = None,
) -> Plan[Connection]:
    """Register a connection of a user and subscribe it to channels. Pass its `conn_id` to the page.

    Args:
        conn_id: id of the connection; None creates one.
        user_state: state to set; the value None removes a key.
        fresh_user_state: state to set only if the user is new to the server.
        state_public_keys: keys of the state that others may see; None leaves them unchanged.
        channel_configs: settings for those of the channels that are new.
        info: content of `channels_info` in the answer.
        since: the last position of the page. Its stream may read these channels and the user's private messages from
            there. None: new events only.
    """
    body = {
        "username": username,
        "channels": listed("channels", channels),
        "conn_id": conn_id or str(uuid4()),
        "user_state": user_state,
        "fresh_user_state": fresh_user_state,
        "state_public_keys": _optional("state_public_keys", state_public_keys),
        "channel_configs": _configs(channel_configs),
        "info": _info(info),
        "since": since,
    }
    reply = yield _call("POST", "/connect", body)
    return read(Connection, reply.body)


def subscribe(
    conn_id: str,
    channels: Iterable[str],
    *,
    channel_configs: Mapping[str, ChannelSettings] | None = None,
    info: Info | None = None,
    since: str | None = None,
) -> Plan[Subscribed]:
    """Subscribe a connection to channels, at least one.

    If the answer of an earlier attempt was lost, `subscribed_to` contains all channels of the request.

    Args:
        channel_configs: settings for those of the channels that are new.
        info: content of `channels_info` in the answer.
        since: a stream that is opened later may read these channels from this position. None: new events only.
    """
    wanted = listed("channels", channels)
    body = {
        "conn_id": conn_id,
        "channels": wanted,
        "channel_configs": _configs(channel_configs),
        "info": _info(info),
        "since": since,
    }
    reply = yield _call("POST", "/subscribe", body)
    done = read(Subscribed, reply.body)
    return replace(done, subscribed_to=sorted({*wanted} & {*done.channels})) if reply.repeated else done


def unsubscribe(conn_id: str, channels: Iterable[str], *, info: Info | None = None) -> Plan[Unsubscribed]:
    """Unsubscribe a connection from channels, at least one.

    If the answer of an earlier attempt was lost, `unsubscribed_from` contains all channels of the request.
    """
    wanted = listed("channels", channels)
    body = {"conn_id": conn_id, "channels": wanted, "info": _info(info)}
    reply = yield _call("POST", "/unsubscribe", body)
    done = read(Unsubscribed, reply.body)
    return replace(done, unsubscribed_from=sorted({*wanted} - {*done.channels})) if reply.repeated else done


def publish(message: Message) -> Plan[SentMessage]:
    """Publish one message."""
    reply = yield Call("POST", "/message", encode(_fields_of(message)))
    return read(SentMessage, reply.body)


def publish_many(messages: Iterable[Message]) -> Plan[list[SentMessage]]:
    """Publish messages in order, up to 500 or 1 MiB in one request. The server accepts a request as a whole or not at all.

    All messages are encoded before the first request, so a message without a JSON form fails the call without any effect.

    Raises:
        PartlySent: a request failed after others had been accepted.
    """
    sent: list[SentMessage] = []
    for body in _batches(_items(messages)):
        try:
            reply = yield Call("POST", "/message", body)
            sent += read_list(SentMessage, reply.body)
        except ChannelstreamError as error:
            if not sent:
                raise
            raise PartlySent(sent, error) from error
    return sent


def edit(
    uuid: str,
    *,
    channel: str | None = None,
    pm_users: Sequence[str] = (),
    exclude_users: Sequence[str] = (),
    message: Any = None,
    user: str | None = None,
    timestamp: datetime | None = None,
) -> Plan[Change]:
    """Edit a message and send the edit. `channel`, `pm_users` and `exclude_users` are those of the message.

    Args:
        message, user, timestamp: the new values; None leaves the old ones.
    """
    body = {
        "uuid": uuid,
        "channel": channel,
        "pm_users": listed("pm_users", pm_users),
        "exclude_users": listed("exclude_users", exclude_users),
        "message": message,
        "user": user,
        "timestamp": timestamp,
    }
    reply = yield _call("PATCH", "/message", body)
    return read(Change, reply.body)


def delete(
    uuid: str,
    *,
    channel: str | None = None,
    pm_users: Sequence[str] = (),
    exclude_users: Sequence[str] = (),
) -> Plan[Change]:
    """Delete a message, and send the deletion to its recipients. The arguments are those of the message.

    If the answer of an earlier attempt was lost, `found` is true: that attempt may have deleted it.
    """
    body = {
        "uuid": uuid,
        "channel": channel,
        "pm_users": listed("pm_users", pm_users),
        "exclude_users": listed("exclude_users", exclude_users),
    }
    reply = yield _call("DELETE", "/message", body)
    change = read(Change, reply.body)
    return replace(change, found=change.found or reply.repeated)


def user_state(user: str, state: State, *, public_keys: Sequence[str] | None = None) -> Plan[UserState]:
    """Change keys of a user's state.

    If the answer of an earlier attempt was lost, `changed_state` contains all keys of `state`.

    Args:
        state: strings, numbers or booleans by key; None removes a key.
        public_keys: keys that others may see; None leaves them unchanged.
    """
    # A null in the state removes a key, so only null fields of the body itself are left out.
    keys = _optional("public_keys", public_keys)
    body = {"user": user, "user_state": dict(state), "state_public_keys": keys}
    return _changed((yield _call("POST", "/user_state", body)), state)


def user_status(user: str, status: int) -> Plan[UserState]:
    """Set the public key `status` of a user's state."""
    return _changed((yield _call("POST", "/user_status", {"user": user, "status": status})), ["status"])


def channel_config(configs: Mapping[str, ChannelSettings]) -> Plan[Channels]:
    """Change settings of channels. A channel that does not exist is created; settings that are None do not change."""
    reply = yield _call("POST", "/channel_config", _configs(configs) or {})
    return read(Channels, reply.body)


def info(what: Info | None = None) -> Plan[Channels]:
    """Describe channels, their history and users; without arguments, all channels."""
    reply = yield _call("POST", "/info", {"info": _info(what or Info())})
    return read(Channels, reply.body)


def disconnect(conn_id: str) -> Plan[bool]:
    """End a connection at once. Return False if it was unknown.

    If the answer of an earlier attempt was lost, the result is True: that attempt may have ended it.
    """
    reply = yield _call("POST", "/disconnect", {"conn_id": conn_id})
    return read_bool(reply.body) or reply.repeated


def revoke(*, user: str | None = None, jti: str | None = None) -> Plan[int]:
    """Refuse tokens of clients, and end the connections that they have opened. Return how many connections these were.

    If the answer of an earlier attempt was lost, the connections that it ended are not counted.

    Args:
        user: the tokens of this user that were issued up to now.
        jti: instead: the token of this name.
    """
    reply = yield _call("POST", "/revoke", {"user": user, "jti": jti})
    return read_number(reply.body, "ended")


def _changed(reply: Reply, keys: Iterable[str]) -> UserState:
    """Return the answer to a change of these keys; after a lost answer all of them count as changed."""
    after = read(UserState, reply.body)
    if not reply.repeated:
        return after
    changed = [StateChange(key=key, value=after.user_state.get(key)) for key in keys]
    return replace(after, changed_state=changed)


def _call(method: str, path: str, body: Mapping[str, Any]) -> Call:
    return Call(method, path, encode({key: value for key, value in body.items() if value is not None}))


def encode(body: Any) -> bytes:
    """Return the JSON of a body.

    Half of a surrogate pair, which has no form in UTF-8, becomes its JSON escape, and the server decides about it.

    Raises:
        TypeError, ValueError: it has no JSON form.
    """
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_json_form)
    return text.encode(errors="backslashreplace")


def _json_form(value: Any) -> Any:
    """Return a JSON form of a value that `json` cannot encode. It encodes subclasses of dict and list itself."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, NO_LISTS):
        return list(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _fields_of(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that are not None."""
    named = ((each.name, getattr(value, each.name)) for each in fields(value))
    return {
        name: listed(name, field) if name in LISTS else field for name, field in named if field is not None
    }


def _optional(what: str, names: Iterable[str] | None) -> list[str] | None:
    return None if names is None else listed(what, names)


def _info(what: Info | None) -> dict[str, Any] | None:
    return None if what is None else _fields_of(what)


def _configs(configs: Mapping[str, ChannelSettings] | None) -> dict[str, Any] | None:
    return None if configs is None else {name: _fields_of(settings) for name, settings in configs.items()}


def _items(messages: Iterable[Message]) -> list[bytes]:
    """Return the JSON of each message.

    Raises:
        TypeError, ValueError: a message has no JSON form; a note of the error has its number.
    """
    items: list[bytes] = []
    for message in messages:
        try:
            items.append(encode(_fields_of(message)))
        except (TypeError, ValueError) as error:
            error.add_note(f"in message {len(items)} (from 0) of publish_many; nothing was sent")
            raise
    return items


def _batches(items: Iterable[bytes]) -> Iterator[bytes]:
    """Yield bodies of requests: JSON lists within the bounds."""
    batch: list[bytes] = []
    size = 0
    for item in items:
        if batch and (len(batch) == MAX_BATCH_MESSAGES or size + len(item) > MAX_BATCH_BYTES):
            yield _list(batch)
            batch, size = [], 0
        batch.append(item)
        size += len(item) + 1
    if batch:
        yield _list(batch)


def _list(items: Sequence[bytes]) -> bytes:
    return b"[" + b",".join(items) + b"]"
