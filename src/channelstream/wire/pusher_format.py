"""How the events of the log become frames of Pusher's protocol: one for each, several of them in one write.

A channel of Pusher is one of this server whose name has a prefix before it. The prefix ends with a slash, which no name
of Pusher has except that of the channel of a user: so what is behind the last slash is the name that clients know.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import msgspec
from msgspec import Raw

from channelstream.apps.keys import name_of
from channelstream.core.entry import Entry
from channelstream.core.events import (
    Event,
    Message,
    MessageDeleted,
    MessageEdited,
    Presence,
    UsersLeft,
    UserStateChanged,
)
from channelstream.core.pusher_names import OF_USER, has_members
from channelstream.wire.framing import Framing
from channelstream.wire.pusher_frames import (
    client_event_frame,
    event_frame,
    member_added_frame,
    member_removed_frame,
)
from channelstream.wire.pusher_members import info_of
from channelstream.wire.pusher_payload import read_payload

_encode = msgspec.json.Encoder().encode


def message_frame(channel: str, payload: bytes, user: str) -> bytes:
    """Return the frame of a message.

    Args:
        channel: as clients know it.
        user: who has published it.
    """
    event = read_payload(payload)
    if event is None:
        return event_frame("message", channel, payload.decode())
    if event.is_client:
        return client_event_frame(event.name, channel, event.data, user if has_members(channel) else "")
    return event_frame(event.name, channel, event.data)


def frames_of(event: Event) -> Sequence[bytes]:
    """Return the JSON of the frames that a member of the channel is sent of an event."""
    if event.channel is None:
        return ()
    channel = pusher_name(event.channel)
    match event:
        case Message():
            return [message_frame(channel, event.payload, name_of(event.user))]
        case MessageEdited():
            return [event_frame("message:edit", channel, _encode(_edited(event)).decode())]
        case MessageDeleted():
            return [event_frame("message:delete", channel, _encode({"uuid": event.uuid}).decode())]
        case Presence():
            return _presence(event, channel)
        case UsersLeft():
            return _left(event, channel)
        case UserStateChanged():
            return ()
        case _:
            assert_never(event)


def text_of(entry: Entry) -> bytes | None:
    """Return these frames as one text; None if there are none."""
    return b",".join(frames_of(entry.event)) or None


def pusher_name(channel: str) -> str:
    """Return the name by which clients know a channel, of its key."""
    name = name_of(channel)
    # The id of a user may have slashes.
    before, of_user, user = name.partition(OF_USER)
    return of_user + user if of_user and before[-1:] in ("", "/") else name.rpartition("/")[2]


def _edited(event: MessageEdited) -> dict[str, Any]:
    """Return what a native client is sent of an edit, besides what every item has."""
    edited: dict[str, Any] = {"uuid": event.uuid, "edited": event.edited}
    if event.user is not None:
        edited["user"] = name_of(event.user)
    if event.timestamp is not None:
        edited["timestamp"] = event.timestamp
    if event.payload is not None:
        edited["message"] = Raw(event.payload)
    return edited


def _presence(event: Presence, channel: str) -> Sequence[bytes]:
    if not has_members(channel):
        return ()
    member = name_of(event.user)
    if event.joined:
        return [member_added_frame(channel, member, info_of(event.state).encode())]
    return [member_removed_frame(channel, member)]


def _left(event: UsersLeft, channel: str) -> Sequence[bytes]:
    if not has_members(channel):
        return ()
    return [member_removed_frame(channel, name_of(left.user)) for left in event.departures]


@dataclass(frozen=True, slots=True)
class PusherFormat:
    """A format of this protocol (`core.format.Format`): its items are frames, so that each is enclosed once."""

    number: int
    form: int
    framing: Framing

    @property
    def name(self) -> str:
        return self.framing.transport

    def item(self, entry: Entry) -> bytes | None:
        return entry.item(self.form, self._frames)

    def _frames(self, entry: Entry) -> bytes | None:
        return self.framed(*frames_of(entry.event)) or None

    def framed(self, *texts: bytes) -> bytes:
        """Return the bytes of one write, with a frame for each text."""
        return b"".join(map(self.framing.enclose, texts))

    def enclose(self, items: Sequence[bytes], _position: str | None) -> bytes:
        return b"".join(items)
