"""A session of Pusher's protocol without a stream: what its client sends, and what it is sent."""

import json
from typing import Any

from channelstream.apps.app import App
from channelstream.apps.pusher_app import PusherApp, PusherSecrets
from channelstream.core.pusher_signing import channel_text, signature, user_text
from channelstream.wire.client_commands import ClientCommand, Done, Joined, Reply
from channelstream.wire.client_session import SessionStart
from channelstream.wire.frame_reader import Close, Data, FrameReader, Limits
from channelstream.wire.framing import Framing
from channelstream.wire.protocols import PROTOCOLS
from channelstream.wire.pusher import PUSHER, PusherSession, new_state

KEY, SECRET, SOCKET_ID = "kit-key", "kit-secret", "12.34"
APP = PusherApp("4711", KEY, PusherSecrets(SECRET))
ANN = '{"user_id":"ann","user_info":{"name":"Ann","age":7,"tags":["x"]}}'


def frames(data: bytes) -> list[Any]:
    """Return what a client reads of some bytes: the JSON of each text, and the code of a close frame."""
    reader = FrameReader(Limits(1 << 20, 1 << 20, 10_000), lambda packed, _: [_inflated(packed)])
    read = list(reader.feed(_masked(data)))
    texts = [json.loads(bytes(each.payload)) for each in read if isinstance(each, Data)]
    return texts + [(each.code, each.reason) for each in read if isinstance(each, Close)]


def _inflated(packed: bytearray) -> bytes:
    import zlib

    return zlib.decompressobj(-15).decompress(bytes(packed) + b"\0\0\xff\xff")


def _masked(data: bytes) -> bytes:
    """Return the frames of a server as those of a client, which the reader takes."""
    masked, at = b"", 0
    while at < len(data):
        size, head = data[at + 1], 2
        if size == 126:
            size, head = int.from_bytes(data[at + 2 : at + 4]), 4
        elif size == 127:
            size, head = int.from_bytes(data[at + 2 : at + 10]), 10
        first = bytes((data[at], data[at + 1] | 0x80)) + data[at + 2 : at + head]
        masked += first + b"\0\0\0\0" + data[at + head : at + head + size]
        at += head + size
    return masked


class Client:
    """The client of a session."""

    def __init__(self, app: PusherApp = APP, framing: Framing = Framing.WEBSOCKET) -> None:
        self.now_s = 100.0
        start = SessionStart(App(pusher=app), lambda: self.now_s, new_state(SOCKET_ID))
        session = PROTOCOLS.session_of(PUSHER, framing, lambda: start)
        assert isinstance(session, PusherSession)
        self.session = session

    def asks(self, event: str, data: Any = None, **more: Any) -> ClientCommand | list[Any]:
        """Send an event; return the command that it is, or what it is answered."""
        return self.sends(json.dumps({"event": event, "data": data, **more}))

    def sends(self, text: str | bytes) -> ClientCommand | list[Any]:
        """Send a text; return the command that it is, or what it is answered."""
        found = list(self.session.receive(text.encode() if isinstance(text, str) else text))
        replies = [each for each in found if isinstance(each, Reply)]
        if len(replies) == len(found):
            return [frame for each in replies for frame in frames(each.data)]
        (command,) = found
        return command

    def does(self, event: str, data: Any, outcome: Any, **more: Any) -> list[Any]:
        """Send an event that asks for something; return what is answered when it was carried out."""
        command = self.asks(event, data, **more)
        assert not isinstance(command, list | Reply), command
        return frames(self.session.reply(command, outcome))  # type: ignore[arg-type]


def auth(channel: str, channel_data: str | None = None, secret: str = SECRET) -> str:
    return f"{KEY}:{signature(secret, channel_text(SOCKET_ID, channel, channel_data))}"


def user_auth(user_data: str, secret: str = SECRET) -> str:
    return f"{KEY}:{signature(secret, user_text(SOCKET_ID, user_data))}"


def error(message: Any = None, code: int | None = None) -> dict[str, Any]:
    return {"event": "pusher:error", "data": {"code": code, "message": message}}


def refused(answer: Any) -> tuple[str, str, int]:
    """Return channel, type and status of a refused subscription; the client is sent both forms of it."""
    first, second = answer
    data = json.loads(first["data"])
    assert first["event"] == "pusher:subscription_error"
    assert second == error(data["error"])
    return first["channel"], data["type"], data["status"]


def subscribe(client: Client, channel: str, outcome: Any = None, **more: Any) -> list[Any]:
    """Subscribe to a channel, with the signature that it needs."""
    data = {"channel": channel, **more}
    if channel.startswith(("private-", "presence-")):
        data["auth"] = auth(channel, more.get("channel_data"))
    return client.does("pusher:subscribe", data, outcome or Joined())


def sign_in(client: Client, user_data: str = '{"id":"ann"}', outcome: Any = None) -> list[Any]:
    data = {"auth": user_auth(user_data), "user_data": user_data}
    return client.does("pusher:signin", data, outcome or Done({}))
