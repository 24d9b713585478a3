"""What the server of an application reads: the occupied channels, one of them, and its users."""

from collections.abc import Sequence
from math import ceil
from typing import Any

from channelstream.api.call import Call
from channelstream.api.pusher.application import pusher_of
from channelstream.api.pusher.attributes import Attribute, Attributes, counts_of, read_attributes
from channelstream.api.pusher.bodies import CHANNEL_FORM
from channelstream.apps.keys import name_of
from channelstream.core.channel import Channel
from channelstream.core.pusher_names import KEEP_LAST_S, has_members, is_channel_name, keeps_last
from channelstream.errors import BadShape
from channelstream.http.parts import Parts, in_parts
from channelstream.service import LastMessages
from channelstream.slices import STEP
from channelstream.wire.pusher_payload import read_payload

_NOT_PRESENCE = "Only presence channels have users."


async def channels(call: Call) -> dict[str, Any] | Parts:
    """Return the occupied channels whose names have a prefix."""
    prefix = call.argument("filter_by_prefix")
    attributes = _attributes(call, (Attribute.USERS, Attribute.SUBSCRIPTIONS))
    if Attribute.USERS in attributes and not has_members(prefix):
        raise BadShape({"info": [f"{_NOT_PRESENCE[:-1]}: filter_by_prefix has to begin with presence-."]})
    pusher = pusher_of(call)
    found = await call.service.channels(None, with_users=False)

    def described(channel: Channel) -> tuple[str, Attributes] | None:
        internal = name_of(channel.name)
        name = pusher.pusher_name(internal)
        if not channel.connections or not internal.startswith(pusher.channel(prefix)):
            return None
        return (name, counts_of(name, channel, attributes)) if is_channel_name(name) else None

    listed = dict(filter(None, await call.slices.each(found, described)))
    answer = {"channels": listed}
    return await in_parts(answer, call.slices) if len(listed) > STEP else answer


async def channel(call: Call) -> Attributes:
    """Describe a channel, whether it is known or not."""
    name = _name(call)
    attributes = _attributes(call, tuple(Attribute))
    if Attribute.USERS in attributes and not has_members(name):
        raise BadShape({"info": [_NOT_PRESENCE]})
    found = await _channel(call, name, with_users=False)
    described: Attributes = {"occupied": bool(found and found.connections)} | counts_of(
        name, found, attributes
    )
    if Attribute.CACHE in attributes:
        described[Attribute.CACHE.value] = await _kept(call, name)
    return described


async def _kept(call: Call, name: str) -> Attributes | None:
    """Return the data of the last event of a cache channel, and for how long it is kept; None if it keeps none."""
    if not keeps_last(name):
        return None
    channel = pusher_of(call).channel(name)
    kept = await LastMessages(call.service).of(channel, KEEP_LAST_S)
    if kept is None:
        return None
    event = read_payload(kept.message.payload)
    return {"data": event.data if event else kept.message.payload.decode(), "ttl": ceil(kept.left_s)}


async def users(call: Call) -> dict[str, Any] | Parts:
    """Return the users of a presence channel."""
    name = _name(call)
    if not has_members(name):
        raise BadShape({"channel": [_NOT_PRESENCE]})
    found = await _channel(call, name, with_users=True)
    ids = dict.fromkeys(await call.slices.each(list(found.users) if found else [], name_of))
    answer = {"users": [{"id": each} for each in ids]}
    return await in_parts(answer, call.slices) if len(ids) > STEP else answer


def _name(call: Call) -> str:
    """Return the name of the channel in the path.

    Raises:
        BadShape: no channel has such a name.
    """
    name = call.parameters["channel"]
    if not is_channel_name(name):
        raise BadShape({"channel": [CHANNEL_FORM]})
    return name


def _attributes(call: Call, allowed: Sequence[Attribute]) -> list[Attribute]:
    return read_attributes(call.argument("info"), allowed)


async def _channel(call: Call, name: str, with_users: bool) -> Channel | None:
    """Return a channel by its name in Pusher; None if the engine knows none."""
    found = await call.service.channels([pusher_of(call).channel(name)], with_users)
    return found[0] if found else None
