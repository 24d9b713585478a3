"""The JSON of the frames that Pusher's clients are sent.

`data` is a text, which mostly is JSON itself. In errors it is an object, in events of other clients what they
have sent.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

_encode = msgspec.json.Encoder().encode


class _Frame(Struct, omit_defaults=True):
    event: str
    channel: str | UnsetType = UNSET
    data: str | Raw | UnsetType = UNSET
    user_id: str | UnsetType = UNSET


def event_frame(event: str, channel: str, data: str) -> bytes:
    """Return an event of a channel.

    Args:
        data: a text, which is sent as it is.
    """
    return _encode(_Frame(event, channel, data))


def client_event_frame(event: str, channel: str, data: str, member: str) -> bytes:
    """Return an event that another client has sent.

    Args:
        data: JSON, which is sent on as it came.
        member: who has sent it, in a presence channel; else empty.
    """
    return _encode(_Frame(event, channel, Raw(data.encode()), member or UNSET))


def established_frame(socket_id: str, activity_timeout_s: int) -> bytes:
    """Return what a client waits for before it subscribes."""
    return _event("pusher:connection_established", socket_id=socket_id, activity_timeout=activity_timeout_s)


PONG_FRAME = _encode(_Frame("pusher:pong", data="{}"))


def error_frame(message: str, code: int | None = None) -> bytes:
    """Return an error, whose data is an object; the client's line stays open."""
    return _encode({"event": "pusher:error", "data": {"code": code, "message": message}})


def succeeded_frame(channel: str) -> bytes:
    """Return the answer to a subscription."""
    return event_frame("pusher_internal:subscription_succeeded", channel, "{}")


def members_frame(channel: str, members: Mapping[str, bytes]) -> bytes:
    """Return the answer to the subscription to a presence channel.

    Args:
        members: the `user_info` of each, as JSON, by name.
    """
    infos = {name: Raw(info) for name, info in members.items()}
    presence = {"ids": list(infos), "hash": infos, "count": len(infos)}
    data = _encode({"presence": presence}).decode()
    return event_frame("pusher_internal:subscription_succeeded", channel, data)


def refused_frame(channel: str, kind: str, message: str, status: int) -> bytes:
    """Return the answer to a subscription that is refused."""
    data = _encode({"type": kind, "error": message, "status": status}).decode()
    return event_frame("pusher:subscription_error", channel, data)


def cache_miss_frame(channel: str) -> bytes:
    """Return what follows the answer to a subscription if the channel keeps no event."""
    return event_frame("pusher:cache_miss", channel, "{}")


def signed_in_frame(user_data: str) -> bytes:
    """Return the answer to a user's sign-in.

    Args:
        user_data: as the client has sent it.
    """
    return _event("pusher:signin_success", user_data=user_data)


def member_added_frame(channel: str, member: str, info: bytes) -> bytes:
    """Return what the members of a channel are sent when another one joins.

    Args:
        info: its `user_info`, as JSON.
    """
    data = _encode({"user_id": member, "user_info": Raw(info)}).decode()
    return event_frame("pusher_internal:member_added", channel, data)


def member_removed_frame(channel: str, member: str) -> bytes:
    """Return what the members of a channel are sent when one has left."""
    return event_frame("pusher_internal:member_removed", channel, _encode({"user_id": member}).decode())


def _event(event: str, **data: Any) -> bytes:
    return _encode(_Frame(event, data=_encode(data).decode()))
