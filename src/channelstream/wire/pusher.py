"""Pusher's protocol: what its clients are sent, and what they ask for.

A client subscribes to channels with signatures of its application (`pusher_subscribing.py`). Whatever is wrong is answered
with an error, and the line stays open.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from channelstream.core.client_protocol import ClientProtocol, PresenceAudience
from channelstream.core.entry import Entry
from channelstream.core.pusher_names import SIGNED_IN, keeps_last, needs_signature
from channelstream.core.pusher_signing import user_text
from channelstream.core.token_bucket import TokenBucket
from channelstream.errors import ChannelstreamError, TooManyRequests
from channelstream.wire.client_commands import (
    Action,
    ClientCommand,
    Join,
    Joined,
    Leave,
    Outcome,
    Relay,
    Reply,
    SignIn,
)
from channelstream.wire.client_session import LineRules, SessionStart, Silence, Start, WireProtocol
from channelstream.wire.framing import Framing
from channelstream.wire.pusher_closing import SILENT, closing_frame, refusal_frame
from channelstream.wire.pusher_format import PusherFormat, frames_of, text_of
from channelstream.wire.pusher_frames import (
    PONG_FRAME,
    cache_miss_frame,
    error_frame,
    established_frame,
    members_frame,
    refused_frame,
    signed_in_frame,
    succeeded_frame,
)
from channelstream.wire.pusher_members import info_of
from channelstream.wire.pusher_payload import MAX_DATA_BYTES, MAX_NAME, PusherEvent, payload_of
from channelstream.wire.pusher_subscribing import Refusal, Subscriber, limit_of
from channelstream.wire.pusher_texts import (
    Asked,
    Identity,
    compact,
    data_text,
    fields_in,
    read_text,
    text_in,
    user_in,
)

PUSHER = ClientProtocol("pusher", PresenceAudience.IF_ANNOUNCED)
CLIENT_PREFIX: Final = "client-"
"""Begins the names of events of clients."""
NOT_SIGNED_IN: Final = 4009
TOO_MANY_EVENTS: Final = 4301
LATE_S: Final = 30.0
"""How much later than after `activity_timeout` a client may show a sign of life: it waits that long for a `pusher:pong`."""
FRAMES: Final = 1000
"""Frames a client may send in a ping interval besides its events: one that comes back subscribes to all its channels."""


class _State(Struct, array_like=True):
    """What another process needs to continue a session.

    Attributes:
        socket_id: names the client's line in signatures.
        channels: each with the name under which the client is a member of it.
        user: name and JSON of the user as whom the client has signed in; None if it has not.
    """

    socket_id: str
    channels: dict[str, str | None] = {}
    user: tuple[str, bytes] | None = None


_encode_state = msgspec.msgpack.Encoder().encode
_decode_state = msgspec.msgpack.Decoder(_State).decode


def new_state(socket_id: str) -> bytes:
    """Return the state of a session that begins (`SessionStart.state`)."""
    return _encode_state(_State(socket_id))


class PusherSession:
    """The session of one client (`ClientSession`)."""

    __slots__ = ("_app", "_channels", "_events", "_socket_id", "_steady", "_user", "format")

    heartbeat = b""

    def __init__(self, format_: PusherFormat, start: SessionStart) -> None:
        """Begin a session, or continue that of another process.

        Raises:
            ValueError: the application does not speak this protocol, or the state is none.
        """
        if start.app.pusher is None:
            raise ValueError("the application has no key for clients of Pusher")
        self.format = format_
        self._app = start.app.pusher
        state = _decode_state(start.state)
        self._socket_id = state.socket_id
        self._channels = state.channels
        self._user = None if state.user is None else Identity(*state.user)
        self._steady = start.steady
        self._events = TokenBucket(self._app.client_events_per_s, now_s=start.steady())

    @property
    def state(self) -> bytes:
        return _encode_state(_State(self._socket_id, self._channels, self._user))

    @property
    def rules(self) -> LineRules:
        activity_s = self._app.activity_timeout_s
        silence = Silence(activity_s + min(LATE_S, activity_s), SILENT, "no sign of life for too long")
        return LineRules(FRAMES, self._app.client_events_per_s, silence, takes_binary=False)

    def opened(self, _conn_id: str) -> bytes:
        return self.format.framed(established_frame(self._socket_id, self._app.activity_timeout_s))

    def resumed(self, _position: str, _recovered: Sequence[str], _lost: Sequence[str]) -> bytes:
        """Return nothing: a client that comes back has a new connection."""
        return b""

    def catchup_item(self, entry: Entry) -> bytes | None:
        return self.format.item(entry)

    def closing(self, code: int | None, reason: str) -> bytes:
        return closing_frame(code, reason)

    def joined(self, writes: Sequence[bytes]) -> bytes:
        return b"".join(writes)

    # -- what the client asks for

    def receive(self, text: bytes | bytearray) -> Iterator[ClientCommand]:
        asked = read_text(text)
        if isinstance(asked, str):
            yield self._error(asked)
        elif asked.event in _HANDLERS:
            yield from _HANDLERS[asked.event](self, asked)
        elif asked.event.startswith(CLIENT_PREFIX):
            yield self._client_event(asked)
        else:
            yield self._error("There is no such event; those of clients begin with client-.")

    def _error(self, message: str, code: int | None = None) -> Reply:
        return Reply(self.format.framed(error_frame(message, code)))

    def _ping(self, _asked: Asked) -> Iterator[ClientCommand]:
        yield Reply(self.format.framed(PONG_FRAME))

    def _pong(self, _asked: Asked) -> Iterator[ClientCommand]:
        yield from ()

    def _subscribe(self, asked: Asked) -> Iterator[ClientCommand]:
        fields = fields_in(asked.data)
        channel = None if fields is None else text_in(fields, "channel")
        if fields is None or channel is None:
            yield self._error("pusher:subscribe needs data with a channel, which is text.")
        elif channel in self._channels:
            yield self._error("This client is subscribed to the channel already.")
        else:
            entry = self._subscriber.admitted(channel, fields)
            yield Reply(self._refusal(channel, entry)) if isinstance(entry, Refusal) else entry

    @property
    def _subscriber(self) -> Subscriber:
        return Subscriber(self._app, self._socket_id, self._user)

    def _refusal(self, channel: str, refused: Refusal) -> bytes:
        """Return both forms: there are clients that read only the first, and others that read only the second."""
        return self.format.framed(refused_frame(channel, *refused), error_frame(refused.message))

    def _unsubscribe(self, asked: Asked) -> Iterator[ClientCommand]:
        fields = fields_in(asked.data)
        channel = None if fields is None else text_in(fields, "channel")
        if channel is None or channel not in self._channels:
            yield self._error("This client is not subscribed to such a channel.")
        else:
            yield Leave(self._app.channel(channel), channel, self._channels[channel])

    def _sign_in(self, asked: Asked) -> Iterator[ClientCommand]:
        fields = fields_in(asked.data) or {}
        user_data = text_in(fields, "user_data") or ""
        user = user_in(user_data)
        if not self._subscriber.shows(user_text(self._socket_id, user_data), fields):
            yield self._error("The signature is not that of this user, socket and key.", NOT_SIGNED_IN)
        elif user is None:
            yield self._error(
                "user_data is not the JSON of an object with an id, which is text.", NOT_SIGNED_IN
            )
        elif self._user is not None and user.name != self._user.name:
            yield self._error("This client has signed in as somebody else.", NOT_SIGNED_IN)
        else:
            yield SignIn(self._app.channel(SIGNED_IN + user.name), user_data)

    def _client_event(self, asked: Asked) -> ClientCommand:
        channel, name = asked.channel, asked.event
        if not self._app.client_events:
            return self._error("Events of clients are switched off.")
        if len(name) > MAX_NAME:
            return self._error(f"The name of an event has at most {MAX_NAME} characters.")
        if channel is None or channel not in self._channels or not needs_signature(channel):
            return self._error(
                "Events of clients go to private and presence channels to which they are subscribed."
            )
        data = b"null" if asked.data is None else compact(asked.data)
        text = None if data is None else data_text(data)
        if data is None or text is None or len(text.encode()) > MAX_DATA_BYTES:
            return self._error(
                f"The data of an event has at most {MAX_DATA_BYTES} bytes, and is not nested too deep."
            )
        if self._events.take(1, self._steady()):
            return self._error("This client sends too many events.", TOO_MANY_EVENTS)
        payload = payload_of(PusherEvent(name, data.decode(), is_client=True))
        return Relay(
            self._app.channel(channel),
            payload,
            channel,
            self._channels[channel],
            is_kept=not keeps_last(channel),
            event=name,
            data=text,
            socket=self._socket_id,
        )

    # -- what was carried out

    def reply(self, command: Action, outcome: Outcome) -> bytes:
        match command:
            case Join():
                return self._joined(command, str(command.ref), outcome)
            case Leave() if not isinstance(outcome, ChannelstreamError):
                self._channels.pop(str(command.ref), None)
                return b""
            case SignIn() if not isinstance(outcome, ChannelstreamError):
                self._user = user_in(str(command.ref))
                return self.format.framed(signed_in_frame(str(command.ref)))
        if not isinstance(outcome, ChannelstreamError):
            return b""
        return self.format.framed(error_frame(outcome.message, self._code(command, outcome)))

    def _code(self, command: Action, error: ChannelstreamError) -> int | None:
        if isinstance(command, SignIn):
            return NOT_SIGNED_IN
        return TOO_MANY_EVENTS if isinstance(error, TooManyRequests) else None

    def _joined(self, command: Join, channel: str, outcome: Outcome) -> bytes:
        if isinstance(outcome, ChannelstreamError):
            return self._refusal(channel, limit_of(outcome))
        self._channels[channel] = command.member
        found = outcome if isinstance(outcome, Joined) else Joined()
        if command.member is None:
            first = succeeded_frame(channel)
        else:
            first = members_frame(
                channel, {name: info_of(state).encode() for name, state in found.members.items()}
            )
        last = frames_of(found.last) if found.last is not None else ()
        missed = [cache_miss_frame(channel)] if found.misses_last else ()
        return self.format.framed(first, *last, *missed)


_HANDLERS: Final = {
    "pusher:ping": PusherSession._ping,
    "pusher:pong": PusherSession._pong,
    "pusher:subscribe": PusherSession._subscribe,
    "pusher:unsubscribe": PusherSession._unsubscribe,
    "pusher:signin": PusherSession._sign_in,
}


def pusher(number: int, form: int) -> WireProtocol:
    """Return the row of this protocol.

    Args:
        number: of the first of two formats.
        form: of the items of the first one.
    """
    framings = (Framing.WEBSOCKET, Framing.DEFLATE)
    formats = {
        framing: PusherFormat(number + offset, form + offset, framing)
        for offset, framing in enumerate(framings)
    }

    def session(framing: Framing, start: Start) -> PusherSession:
        return PusherSession(formats[framing], start())

    return WireProtocol(PUSHER, "Pusher", formats, session, text_of, closing=refusal_frame, resumes=False)
