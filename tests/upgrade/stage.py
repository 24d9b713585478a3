"""An old and a new server in the test's process, and what moves between them over a real line."""

import asyncio
import fcntl
import json
import os
import socket
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import uvloop
from itsdangerous import TimestampSigner
from tests.conftest import PATIENT, SECRET
from tests.e2e.wire import CallWire, Ended, Items, Wire, open_calls, open_wire
from tests.waiting import PATIENCE_S, soon

from channelstream.config import Settings
from channelstream.server import Server, build
from channelstream.upgrade.giver import Giver
from channelstream.upgrade.line import Line, Part
from channelstream.upgrade.taker import Taker
from channelstream_client.protocol import closing_of

END = "end"
TIMES = {f"{name.lower()}_s": float(time_s) for name, time_s in PATIENT.items()}


def sign(path: str) -> dict[str, str]:
    return {"x-channelstream-secret": TimestampSigner(SECRET).sign(path).decode()}


@dataclass
class Stage:
    """A server that serves, and its clients.

    Attributes:
        server: the one that serves now.
        old: those that do not serve any more.
        after_copy: what happens while a server still serves, and its logs are copied.
        while_frozen: what clients do while a server holds everything.
        when_sent: what they do when its state is sent already.
        when_prepared: what happens to a server that has the state, before it serves.
        when_begun: what happens when it answers calls, and has continued no stream.
    """

    settings: Settings
    port: int
    server: Server
    old: list[Server] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)
    after_copy: Callable[[], Awaitable[None]] = field(default_factory=lambda: nothing)
    while_frozen: Callable[[], Awaitable[None]] = field(default_factory=lambda: nothing)
    when_sent: Callable[[], Awaitable[None]] = field(default_factory=lambda: nothing)
    when_prepared: Callable[[Server], Awaitable[None]] = field(default_factory=lambda: unchanged)
    when_begun: Callable[[], Awaitable[None]] = field(default_factory=lambda: nothing)

    async def calls(self) -> CallWire:
        """Open a connection for calls, which stays open between them."""
        wire = await open_calls(self.port)
        self.wires.append(wire)
        return wire

    async def call(self, path: str, body: object) -> Any:
        wire = await self.calls()
        return await post(wire, path, body)

    def url(self, user: str) -> str:
        return f"ws://127.0.0.1:{self.port}/ws?conn_id={of(user)}"

    async def register(self, user: str, *channels: str) -> None:
        await self.call("/connect", {"username": user, "conn_id": of(user), "channels": list(channels)})

    async def stream(self, transport: str, user: str, *channels: str) -> Wire:
        """Register a connection, and return its stream."""
        await self.register(user, *channels)
        wire = await open_wire(transport, self.port)
        self.wires.append(wire)
        await wire.ask(of(user), "")
        return wire

    async def publish(self, *texts: str, channel: str = "a") -> None:
        messages = [{"user": "app", "channel": channel, "message": {"text": text}} for text in texts]
        await self.call("/message", messages)

    def giver(self) -> Giver:
        return Giver(self.server.parts)

    def new(self, **more: Any) -> Server:
        """Build a server that may take over, with other settings."""
        return build(replace(self.settings, **more))

    async def reads(self, wire: Wire) -> None:
        """Wait until the server has read all that a wire has written."""
        line = wire._writer.get_extra_info("socket")
        await soon(lambda: not queued(line))

    async def _handed_over(self) -> tuple[Giver, Taker, Server]:
        giver, server = self.giver(), self.new()
        taker = Taker(server.parts)
        await over_a_line(giver.copy(), taker)
        await taker.build()
        await self.after_copy()
        await hold(giver)
        await self.while_frozen()
        await over_a_line(giver.parts(), taker)
        await self.when_sent()
        return giver, taker, server

    async def fail(self) -> dict[str, int]:
        """Hand everything over to a new server that ends instead; return what."""
        giver, taker, _ = await self._handed_over()
        end(taker)
        await giver.thaw()
        return giver.tally

    async def fail_late(self) -> dict[str, int]:
        """Hand everything over to a new server that ends when it is prepared; return what."""
        giver, taker, server = await self._handed_over()
        await taker.prepared()
        await self.when_prepared(server)
        await server.parts.node.move._engine._links.close()  # type: ignore[attr-defined]
        end(taker)
        await giver.thaw()
        return giver.tally

    async def upgrade(self) -> dict[str, int]:
        """Hand everything over to a new server; return what."""
        giver, taker, server = await self._handed_over()
        await taker.prepared()
        await self.when_prepared(server)
        await giver.release()
        await taker.begin()
        await self.when_begun()
        await taker.attach()
        self.old.append(self.server)
        self.server = server
        return giver.tally


def end(taker: Taker) -> None:
    """Close what a taker has received, as the end of its process does."""
    for _, sockets in taker._listening.values():
        for listening in sockets:
            listening.close()
    for descriptor, _ in (*taker._streams.values(), *taker._http):
        os.close(descriptor)


async def hold(giver: Giver) -> None:
    await giver.hold_streams()
    await giver.freeze()


async def nothing() -> None:
    """Nothing happens."""


async def unchanged(server: Server) -> None:
    """Nothing happens to the server."""


async def code_of(wire: Wire) -> int:
    """Read a stream to its end, and return with which code it was closed."""
    try:
        while (closing := closing_of(await wire.items())) is None:
            pass
    except Ended as ended:
        return ended.code
    return closing.code


def queued(line: socket.socket) -> int:
    """Return the bytes that the other end of a connection has not read: those that it has, are acknowledged."""
    return int.from_bytes(fcntl.ioctl(line.fileno(), termios.TIOCOUTQ, bytes(4)), "little")


async def over_a_line(parts: AsyncIterator[Part], taker: Taker) -> None:
    """Send all parts to the taker, as another process would receive them."""
    near, far = Line.pair()

    async def send() -> None:
        async for part in parts:
            await near.send(part)
        await near.send(Part(END))

    async def receive() -> None:
        while (part := await far.receive()).kind != END:
            await taker.take(part)

    try:
        await asyncio.gather(send(), receive())
    finally:
        near.close()
        far.close()


def of(user: str) -> str:
    """Return the connection id of a user."""
    return f"00000000-0000-4000-8000-{user.encode().hex().zfill(12)}"


async def post(wire: CallWire, path: str, body: object) -> Any:
    status, _, content = await wire.post(path, body, {"content-type": "application/json", **sign(path)})
    assert status == 200, content
    return json.loads(content)


async def items(wire: Wire) -> Items:
    """Return the next list that is no heartbeat."""
    while not (received := await wire.items()):
        pass
    return received


async def texts(wire: Wire, count: int) -> list[str]:
    """Return the texts of the next messages."""
    found: list[str] = []
    while len(found) < count:
        found += [item["message"]["text"] for item in await items(wire) if item["type"] == "message"]
    return found


async def close(server: Server) -> None:
    """End a server that no task runs."""
    parts = server.parts
    parts.listener.close()
    await parts.housekeeping.stop()
    await parts.http_server.abort()
    parts.streams.heartbeat.stop()
    await parts.webhooks.stop()
    await parts.node.close()


@asynccontextmanager
async def serving(**more: Any) -> AsyncIterator[Stage]:
    settings = Settings(**({"secret": SECRET} | TIMES | more))
    server = build(settings)
    await server.node.start()
    server.parts.streams.heartbeat.start()
    server.parts.housekeeping.start()
    listening = socket.create_server(("127.0.0.1", 0))
    await server.parts.listener.listen_on([listening])
    stage = Stage(settings, listening.getsockname()[1], server)
    try:
        yield stage
    finally:
        for wire in stage.wires:
            with suppress(OSError):
                await wire.close()
        for each in (*stage.old, stage.server):
            await close(each)


def play(scenario: Callable[[Stage], Awaitable[None]], **more: Any) -> None:
    """Play a scenario.

    Args:
        more: settings of the servers.
    """

    async def run() -> None:
        async with serving(**more) as stage, asyncio.timeout(PATIENCE_S):
            await scenario(stage)

    uvloop.run(run())
