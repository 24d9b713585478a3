"""Events from the server of an application: `/events` and `/batch_events`."""

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import UNSET

from channelstream.api.call import Call
from channelstream.api.pusher.application import pusher_of
from channelstream.api.pusher.attributes import Attribute, Attributes, counts_of, read_attributes
from channelstream.api.pusher.bodies import (
    BatchBody,
    BatchItem,
    EventBody,
    read_batch,
    read_body,
    read_event,
)
from channelstream.apps.keys import name_of
from channelstream.core.events import Message
from channelstream.core.pusher_names import has_members, is_of_user, keeps_last
from channelstream.core.pusher_signing import conn_id_of
from channelstream.core.timestamps import stamp
from channelstream.service import LastMessages
from channelstream.wire.pusher_payload import PusherEvent, payload_of

_COUNTS = (Attribute.USERS, Attribute.SUBSCRIPTIONS)


async def trigger(call: Call) -> dict[str, Any]:
    """Send an event to one or more channels."""
    items = read_event(await read_body(call.body, EventBody, call.walker))
    await _send(call, items)
    if not items[0].info:
        return {}
    described = await _described(call, items)
    return {"channels": {item.channel: each for item, each in zip(items, described, strict=True)}}


async def trigger_batch(call: Call) -> dict[str, Any]:
    """Send several events, all or none."""
    items = (await read_body(call.body, BatchBody, call.walker)).batch
    read_batch(items)
    await _send(call, items)
    return {"batch": await _described(call, items)} if any(item.info for item in items) else {}


async def _send(call: Call, items: Sequence[BatchItem]) -> None:
    if call.key_rate is not None:
        call.key_rate.check_messages(len(items))
    pusher, now = pusher_of(call), stamp(call.service.clock.wall())
    if kept := [item.channel for item in items if keeps_last(item.channel)]:
        announced = [pusher.channel(each) for each in kept if has_members(each)]
        await LastMessages(call.service).keep(map(pusher.channel, kept), announced)
    await call.service.publish([_message(call, item, now) for item in items])


def _message(call: Call, item: BatchItem, now: str) -> Message:
    """Return the message that an event is."""
    pusher = pusher_of(call)
    excluded = None if item.socket_id is UNSET else conn_id_of(pusher.secrets.oldest, item.socket_id)
    return Message(
        uuid=call.service.new_id(),
        channel=pusher.channel(item.channel),
        user="",
        payload=payload_of(PusherEvent(item.name, item.data)),
        timestamp=now,
        exclude_connection=excluded and call.service.app.conn_id(excluded),
    )


async def _described(call: Call, items: Iterable[BatchItem]) -> list[Attributes]:
    """Return the attributes that each event asks for, of its channel, as they are now; nothing of the channel of a user."""
    pusher = pusher_of(call)
    names = {item.channel: pusher.channel(item.channel) for item in items if item.info}
    found = await call.service.channels(list(names.values()), with_users=False) if names else ()
    channels = {name_of(channel.name): channel for channel in found}

    def attributes(item: BatchItem) -> Attributes:
        if not item.info or is_of_user(item.channel):
            return {}
        channel = channels.get(names[item.channel])
        return counts_of(item.channel, channel, read_attributes(item.info, _COUNTS))

    return [attributes(item) for item in items]
