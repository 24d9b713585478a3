"""A server whose WebSockets send every message back, as the Autobahn suite needs it.

It has the listener, HTTP, handshake, frame reader, limits and streams of the product. Only what becomes of a message
differs: `EchoStream` sends it back, where other streams carry out what its text asks for.
"""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from unittest.mock import patch

from tests.transports.registering import Registering
from tests.waiting import soon

from channelstream.config import Settings
from channelstream.core.client_protocol import ClientProtocol, PresenceAudience
from channelstream.core.entry import Entry
from channelstream.server import build
from channelstream.transports import opening
from channelstream.transports.routes import ENTRANCES
from channelstream.transports.websocket import WebSocketStream
from channelstream.wire.client_commands import Action, ClientCommand, Outcome
from channelstream.wire.client_session import LineRules, WireProtocol
from channelstream.wire.deflate import compress
from channelstream.wire.frame_reader import Data
from channelstream.wire.frames import close_frame, frame
from channelstream.wire.framing import Framing
from channelstream.wire.protocols import PROTOCOLS, Protocols, own_protocols

PATH = "/echo"
ECHO = ClientProtocol("echo", PresenceAudience.IF_ANNOUNCED)
LARGEST_BYTES = 16 * 2**20
"""The longest message of the suite: cases 9.1.6 and 9.2.6."""
FRAMES = 1_000_000
"""More than the suite sends in a case: 262,144 in 9.3.1, in frames of 64 bytes."""
SETTINGS = Settings(
    secret="x",
    admin_secret="y",
    max_inbound_bytes=LARGEST_BYTES,
    max_inbound_frames=FRAMES,
    outbox_bytes=4 * LARGEST_BYTES,
    heartbeat_interval_s=300.0,
    ping_interval_s=300.0,
    max_address_stream_rate=0.0,
    compression=True,
)
"""Limits that the suite does not reach, and no heartbeats: a case fails if it is sent what it does not expect."""


class EchoStream(WebSocketStream):
    """Sends each message back, compressed where the client has negotiated that."""

    __slots__ = ()

    def _receive(self, message: Data) -> bool:
        if self._closing or self._transport.is_closing():
            return False
        payload = bytes(message.payload)
        if self._reader.inflates:
            self.write(frame(message.opcode, compress(payload), rsv1=True))
        else:
            self.write(frame(message.opcode, payload))
        return False


@dataclass(frozen=True)
class NoEvents:
    """The format of streams that are sent no events."""

    number: int
    form: int
    name: str

    def item(self, entry: Entry) -> bytes | None:
        return None

    def enclose(self, items: Sequence[bytes], position: str | None) -> bytes:
        return b""


class EchoSession:
    """Says nothing by itself."""

    heartbeat = b""
    rules = LineRules()
    state = b""

    def __init__(self, format_: NoEvents) -> None:
        self.format = format_

    def opened(self, conn_id: str) -> bytes:
        return b""

    def resumed(self, position: str, recovered: Sequence[str], lost: Sequence[str]) -> bytes:
        return b""

    def catchup_item(self, entry: Entry) -> bytes | None:
        return None

    def closing(self, code: int | None, reason: str) -> bytes:
        return close_frame(code, reason)

    def receive(self, text: bytes | bytearray) -> tuple[ClientCommand, ...]:
        return ()

    def reply(self, command: Action, outcome: Outcome) -> bytes:
        return b""

    def joined(self, writes: Sequence[bytes]) -> bytes:
        return b"".join(writes)


def echo_protocol() -> WireProtocol:
    number, form = len(PROTOCOLS.formats), 1 + max(each.form for each in PROTOCOLS.formats)
    formats = {
        framing: NoEvents(number + at, form + at, framing.transport)
        for at, framing in enumerate((Framing.WEBSOCKET, Framing.DEFLATE))
    }
    return WireProtocol(
        ECHO,
        "echo",
        formats,
        lambda framing, _: EchoSession(formats[framing]),
        text=lambda _: None,
        resumes=False,
    )


class EchoEntrance(Registering):
    """`/echo`."""

    paths = (PATH,)
    protocol = ECHO


@asynccontextmanager
async def echoing() -> AsyncIterator[str]:
    """Run the server in this loop; yields the URL of its WebSockets."""
    thresholds = gc.get_threshold()
    protocols = Protocols([*own_protocols(), echo_protocol()])
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        patch.object(opening, "WebSocketStream", EchoStream),
    ):
        server = build(SETTINGS, protocols, (*ENTRANCES, EchoEntrance))
        serving = asyncio.create_task(server.run([listening]))
        try:
            await soon(lambda: server.has_started)
            yield f"ws://127.0.0.1:{listening.getsockname()[1]}{PATH}"
        finally:
            server.stop()
            await serving
            gc.set_threshold(*thresholds)
