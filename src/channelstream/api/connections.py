"""`/connect`, `/subscribe`, `/unsubscribe` and `/disconnect`."""

from collections.abc import Awaitable, Coroutine, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from channelstream.api.answers import ChannelsInfo, ConnectAnswer, SubscribeAnswer, UnsubscribeAnswer
from channelstream.api.call import Call
from channelstream.api.info import channels_info, info_at_once, split_if_long
from channelstream.api.schemas import (
    ChannelSettings,
    ConnectBody,
    DisconnectBody,
    InfoOptions,
    SubscribeBody,
    UnsubscribeBody,
)
from channelstream.api.validation import conn_id_in, decode, decode_at_once, unknown_connection
from channelstream.apps.keys import DEFAULT, name_of
from channelstream.close_codes import CloseCode
from channelstream.core.client_protocol import ClientProtocol
from channelstream.core.user import UserUpdate
from channelstream.errors import Invalid
from channelstream.faults import Faults
from channelstream.http.parts import Parts
from channelstream.service import Opened
from channelstream.wire.channelstream import SEED, V07

S = TypeVar("S", SubscribeBody, UnsubscribeBody)

STATUS_KEY = "status"
"""The state key in which the seed's status lives; it is always public."""


def connect(call: Call) -> ConnectAnswer | Coroutine[Any, Any, ConnectAnswer | Parts]:
    """Register a connection of a user and subscribe it to channels; at once, if nothing has to wait."""
    body = decode_at_once(call.body, ConnectBody)
    if body is None or body.conn_id or body.channel_configs:
        return _connect_later(call, body)
    opened = call.service.connect_at_once(
        body.name, _protocol(body), body.channels, _update(body), body.since or ""
    )
    if opened is None:
        return _connect_later(call, body)
    if not isinstance(opened, Opened):
        return _describe_later(call, opened, body)
    info = info_at_once(call, opened.channels, body.info)
    return _describe_later(call, opened, body) if info is None else _connected(opened, info)


async def _connect_later(call: Call, body: ConnectBody | None) -> ConnectAnswer | Parts:
    if body is None:
        body = await decode(call.body, ConnectBody, call.walker)
    if body.conn_id:
        _check_owner(call, body.conn_id)
    patches = await _patches(call, body.channels, body.channel_configs)
    opened = call.service.connect(
        body.conn_id or None, body.name, _protocol(body), patches, _update(body), body.since or ""
    )
    return await _describe_later(call, call.service.announced(opened), body)


def _check_owner(call: Call, conn_id: str) -> None:
    """Refuse an id of the default application by which streams would look for a connection of another one.

    Raises:
        Invalid: it begins with the id of another application (`Apps.of_conn_id`).
    """
    owner = call.service_of(conn_id).app
    if call.service.app.id == DEFAULT and owner is not call.service.app:
        raise Invalid({"conn_id": [f"Must not begin with {owner.id}., as those of another application do."]})


async def _describe_later(
    call: Call, opened: Opened | Awaitable[Opened], body: ConnectBody
) -> ConnectAnswer | Parts:
    if not isinstance(opened, Opened):
        opened = await opened
    info = await _info(call, opened.channels, body.info)
    return await split_if_long(call, _connected(opened, info), info)


def _protocol(body: ConnectBody) -> ClientProtocol:
    return SEED if body.speaks_seed else V07


def _connected(opened: Opened, info: ChannelsInfo) -> ConnectAnswer:
    """Return the answer about a connection, with the description of its channels."""
    user, state = opened.user, opened.user.state
    status: Any = state.get(STATUS_KEY, 0)
    return ConnectAnswer(
        conn_id=opened.conn_id,
        state=state,
        username=name_of(user.name),
        public_state=user.public_state,
        status=status,
        position=info.position,
        channels=opened.channels,
        channels_info=info,
    )


async def subscribe(call: Call) -> SubscribeAnswer | Parts:
    """Subscribe a connection to channels."""
    body = await _read(call, SubscribeBody)
    conn_id = call.conn_id(body.conn_id or None)
    patches = await _patches(call, body.channels, body.channel_configs)
    service = call.service
    done = await service.announced(service.subscribe(conn_id, patches, body.since or "")) if conn_id else None
    if done is None:
        raise unknown_connection()
    info = await _info(call, done.channels, body.info)
    answer = SubscribeAnswer(channels=done.channels, channels_info=info, subscribed_to=done.changed)
    return await split_if_long(call, answer, info)


async def unsubscribe(call: Call) -> UnsubscribeAnswer | Parts:
    """Unsubscribe a connection from channels."""
    body = await _read(call, UnsubscribeBody)
    conn_id = call.conn_id(body.conn_id or None)
    service = call.service
    done = await service.announced(service.unsubscribe(conn_id, body.channels)) if conn_id else None
    if done is None:
        raise unknown_connection()
    info = await _info(call, done.channels, body.info)
    answer = UnsubscribeAnswer(channels=done.channels, channels_info=info, unsubscribed_from=done.changed)
    return await split_if_long(call, answer, info)


async def disconnect(call: Call) -> bool:
    """End a connection. Return False if there is none with this id."""
    body = await decode(call.body, DisconnectBody, call.walker) if call.body.strip() else DisconnectBody()
    conn_id = call.conn_id(body.conn_id or None)
    if conn_id is None:
        return False
    # The client is not sent the name.
    recorded = f"disconnected by an admin ({call.admin})" if call.admin else ""
    service = call.service_of(conn_id)
    ending = service.end(conn_id, CloseCode.NORMAL, "disconnected by the application", recorded)
    return await service.announced(ending)


async def _read(call: Call, schema: type[S]) -> S:
    """Read the body of a call about a connection.

    Raises:
        Invalid: it breaks the schema. An unknown connection is reported together with the other faults.
    """
    try:
        return await decode(call.body, schema, call.walker)
    except Invalid as error:
        if "conn_id" in error.faults or "_schema" in error.faults:
            raise
        raise Invalid(await _faults_of_connection(call) | error.faults) from error


async def _faults_of_connection(call: Call) -> Faults:
    try:
        conn_id = call.conn_id(await call.walker.run(conn_id_in, call.body))
    except Invalid as error:
        return error.faults
    # A subscription to no channels changes nothing: it only finds out whether the connection exists.
    known = await call.service.subscribe(conn_id, {}) if conn_id else None
    return {} if known else unknown_connection().faults


def _info(call: Call, names: list[str], options: InfoOptions) -> Coroutine[Any, Any, ChannelsInfo]:
    return channels_info(call, _named(names, options), options)


def _named(names: list[str], options: InfoOptions) -> list[str]:
    """Return those of the channels that the answer describes."""
    if options.channels is None:
        return names
    asked = set(options.channels)
    return [name for name in names if name in asked]


async def _patches(
    call: Call, channels: list[str], configs: Mapping[str, ChannelSettings]
) -> dict[str, dict[str, Any]]:
    """Return the settings that each of the channels gets if it is new."""
    if not configs:
        return {name: {} for name in channels}

    def patch(name: str) -> dict[str, Any]:
        return msgspec.to_builtins(configs[name]) if name in configs else {}

    return dict(zip(channels, await call.slices.each(channels, patch), strict=True))


def _update(body: ConnectBody) -> UserUpdate:
    public_keys = None if body.state_public_keys is UNSET else body.state_public_keys
    if body.status is UNSET:
        return UserUpdate(body.user_state, body.fresh_user_state, public_keys)
    values = body.user_state | {STATUS_KEY: body.status}
    return UserUpdate(values, body.fresh_user_state, public_keys, (STATUS_KEY,))
