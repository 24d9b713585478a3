"""A second protocol over real sockets: what its session says, and the commands of its clients."""

import asyncio
import gc
import json
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import uvloop
from tests.http_client import async_client
from tests.simulation.loop import turns
from tests.transports.second_protocol import ALL_ENTRANCES, BOTH_TABLES
from tests.waiting import PATIENCE_S, soon
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from channelstream.config import Settings
from channelstream.core.connection import Connection
from channelstream.core.events import Message
from channelstream.core.user import UserUpdate
from channelstream.errors import Unavailable
from channelstream.server import Server, build
from channelstream.wire.channelstream import V07

pytestmark = pytest.mark.replaces_compiled

SOCKET_BYTES = 65_536
"""The buffers of the kernel for a connection, in each direction at each end."""


def bound_buffers(end: socket.socket) -> None:
    """Keep the kernel from letting the buffers of a socket grow, and of those that it accepts: megabytes would fit in."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)


@dataclass(frozen=True)
class Scene:
    """A server that speaks both protocols, in this loop."""

    server: Server
    server_address: tuple[str, int]

    @property
    def url(self) -> str:
        return "ws://{}:{}".format(*self.server_address)

    def opened(self, user: str = "ann", **more: Any) -> connect:
        """Open a stream of the second protocol."""
        end = socket.socket()
        bound_buffers(end)
        end.connect(self.server_address)
        return connect(f"{self.url}/second/{user}", compression=None, sock=end, **more)

    async def publish(self, channel: str, *payloads: int) -> None:
        await self.server.node.publish(
            [
                Message(
                    uuid=f"{channel}-{each}", channel=channel, user="x", payload=b"%d" % each, timestamp="t"
                )
                for each in payloads
            ]
        )


def play(scenario: Callable[[Scene], Awaitable[None]], **more: Any) -> None:
    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            bound_buffers(listening)
            server = build(Settings(secret="x", admin_secret="y", **more), BOTH_TABLES, ALL_ENTRANCES)
            running = asyncio.create_task(server.run([listening]))
            try:
                await soon(lambda: server.has_started)
                await scenario(Scene(server, listening.getsockname()))
            finally:
                server.stop()
                await running

    thresholds = gc.get_threshold()
    try:
        uvloop.run(asyncio.wait_for(run(), PATIENCE_S))
    finally:
        # What is frozen stays so: it is that of all tests, too (`tests/conftest.py`).
        gc.set_threshold(*thresholds)


async def said(stream: ClientConnection) -> dict[str, Any]:
    item = json.loads(await stream.recv())
    assert isinstance(item, dict)
    return item


async def ask(stream: ClientConnection, *commands: dict[str, Any]) -> None:
    await stream.send(json.dumps(commands[0] if len(commands) == 1 else commands))


def test_a_stream_begins_with_the_greeting_and_pings_are_answered_in_order() -> None:
    """One text may have several commands; each answer repeats the id of its command."""

    async def scenario(scene: Scene) -> None:
        async with scene.opened() as stream:
            assert await said(stream) == {"event": "welcome"}
            await ask(stream, {"do": "ping", "id": 1}, {"do": "ping", "id": 2})
            await ask(stream, {"do": "ping", "id": 3})
            assert [(await said(stream))["id"] for _ in range(3)] == [1, 2, 3]

    play(scenario)


def test_a_subscribe_command_is_answered_and_then_delivers() -> None:
    """The answer comes before every event of the channel, also before those that arrive while it is carried out."""

    async def scenario(scene: Scene) -> None:
        node = scene.server.node
        subscribe = node.subscribe

        async def slow(*asked: Any) -> Any:
            done = await subscribe(*asked)
            await scene.publish("a", 1, 2)
            await asyncio.sleep(0)
            return done

        node.subscribe = slow  # type: ignore[method-assign, assignment]
        async with scene.opened() as stream:
            await said(stream)
            await ask(stream, {"do": "subscribe", "channel": "a", "id": 7})
            assert await said(stream) == {"event": "subscribed", "joined": ["a"], "id": "7"}
            await scene.publish("a", 3)
            items = [await said(stream) for _ in range(3)]
            assert items == [{"event": "message", "channel": "a", "data": each} for each in (1, 2, 3)]

    play(scenario)


def test_the_events_of_one_write_are_a_frame_each() -> None:
    """Several events of one flush are several messages of the WebSocket."""

    async def scenario(scene: Scene) -> None:
        async with scene.opened() as stream:
            await said(stream)
            await ask(stream, {"do": "subscribe", "channel": "a"}, {"do": "subscribe", "channel": "b"})
            await said(stream)
            await said(stream)
            await scene.publish("a", 1, 2)
            await scene.publish("b", 3)
            assert [(await said(stream))["data"] for _ in range(3)] == [1, 2, 3]

    play(scenario)


def test_events_of_other_channels_are_not_missed_while_a_command_is_carried_out() -> None:
    """They are read from the log after the answer."""

    async def scenario(scene: Scene) -> None:
        async with scene.opened() as stream:
            await said(stream)
            await ask(stream, {"do": "subscribe", "channel": "a"})
            await said(stream)
            subscribe = scene.server.node.subscribe

            async def slow(*asked: Any) -> Any:
                await scene.publish("a", 1)
                done = await subscribe(*asked)
                await scene.publish("a", 2)
                return done

            scene.server.node.subscribe = slow  # type: ignore[method-assign, assignment]
            await ask(stream, {"do": "subscribe", "channel": "b"})
            items = [await said(stream) for _ in range(3)]
            assert [item["event"] for item in items] == ["subscribed", "message", "message"]
            assert [item["data"] for item in items[1:]] == [1, 2]

    play(scenario)


def test_a_command_that_is_refused_is_answered_with_the_error() -> None:
    """The stream goes on: the limit of channels, and an engine that is out of reach."""

    async def scenario(scene: Scene) -> None:
        async with scene.opened() as stream:
            await said(stream)
            await ask(
                stream, {"do": "subscribe", "channel": "a"}, {"do": "subscribe", "channel": "b", "id": 2}
            )
            await said(stream)
            refused = await said(stream)
            assert (refused["event"], refused["id"]) == ("error", "2")

            async def unreachable(*_: Any) -> None:
                raise Unavailable("out of reach")

            scene.server.node.subscribe = unreachable  # type: ignore[method-assign, assignment]
            await ask(stream, {"do": "subscribe", "channel": "c", "id": 3})
            assert await said(stream) == {"event": "error", "reason": "out of reach", "id": "3"}
            await scene.publish("a", 1)
            assert (await said(stream))["data"] == 1

    play(scenario, max_channels_per_connection=1)


def test_a_fault_in_a_command_is_logged_and_ends_the_stream(caplog: pytest.LogCaptureFixture) -> None:
    """Its client reconnects; a stream that stays open would leave it without an answer, and unread, for ever."""

    async def scenario(scene: Scene) -> None:
        async def fail(*_: Any) -> None:
            raise LookupError("a fault")

        scene.server.node.subscribe = fail  # type: ignore[method-assign, assignment]
        async with scene.opened() as stream:
            await said(stream)
            await ask(stream, {"do": "subscribe", "channel": "a"})
            assert await _end(stream) == (1013, "the server failed; its log has the reason")

    play(scenario)
    assert [record.getMessage() for record in caplog.records if record.exc_info] == ["a stream failed"]


def test_a_text_that_is_not_understood_is_answered_and_the_third_ends_the_stream() -> None:
    """The session counts the faults of its client alone, and the close code is the protocol's own."""

    async def scenario(scene: Scene) -> None:
        async with scene.opened() as stream, scene.opened("bob") as other:
            for each in (stream, other):
                await said(each)
            for text in ("not json", "[[]]"):
                await stream.send(text)
                assert (await said(stream))["event"] == "error"
            await other.send("7")
            assert (await said(other))["event"] == "error"
            await ask(stream, {"do": "fly"}, {"do": "ping"})
            assert (await said(stream))["event"] == "error"
            assert await _end(stream) == (4005, "too many faults")
            await ask(other, {"do": "ping", "id": 1})
            assert await said(other) == {"event": "pong", "id": 1}

    play(scenario)


def test_what_the_server_says_at_the_end_has_the_close_codes_of_the_protocol() -> None:
    """A refusal right after the handshake, and a restart; the server's own protocol keeps its codes."""

    async def scenario(scene: Scene) -> None:
        async with scene.opened("stranger") as refused:
            assert await _end(refused) == (4001, "Strangers are not welcome.")
        async with connect(f"{scene.url}/ws?conn_id=unknown") as refused:
            assert (await _end(refused))[0] == 4001
        own = await scene.server.node.connect("own", "eve", V07, {}, UserUpdate({}, {}))
        async with scene.opened() as stream, connect(f"{scene.url}/ws?conn_id={own.conn_id}") as other:
            await said(stream)
            await soon(lambda: scene.server.node.connection("own").stream is not None)  # type: ignore[union-attr]
            scene.server.stop()
            assert (await _end(stream))[0] == 4200
            assert (await _end(other))[0] == 1012

    play(scenario)


def test_a_request_without_an_upgrade_is_refused() -> None:
    """A row of the table is enough: its path is one of the server's routes."""

    async def scenario(scene: Scene) -> None:
        async with async_client() as http:
            answer = await http.get(f"{scene.url}/second/ann".replace("ws:", "http:"))
        assert (answer.status_code, answer.json()["code"]) == (426, "upgrade_required")

    play(scenario)


def test_a_connection_that_cannot_be_resumed_ends_with_its_stream() -> None:
    """There is no grace period: nobody could come back to it."""

    async def scenario(scene: Scene) -> None:
        hub = scene.server.node.hub
        async with scene.opened() as stream:
            await said(stream)
            await ask(stream, {"do": "subscribe", "channel": "a"})
            await said(stream)
            assert len(hub.channels["a"]) == 1
            stream.transport.abort()
            await soon(lambda: not hub.connections and "a" not in hub.channels)

    play(scenario, detach_grace_s=1000)


def test_while_a_command_is_carried_out_nothing_further_is_read() -> None:
    """What the client sends meanwhile, pongs too, stays in the socket; then it is answered in order."""

    async def scenario(scene: Scene) -> None:
        node = scene.server.node
        subscribe, begun, may_end = node.subscribe, asyncio.Event(), asyncio.Event()

        async def slow(*asked: Any) -> Any:
            begun.set()
            await may_end.wait()
            return await subscribe(*asked)

        node.subscribe = slow  # type: ignore[method-assign, assignment]
        async with scene.opened() as stream:
            await said(stream)
            await ask(stream, {"do": "subscribe", "channel": "a", "id": 0})
            await begun.wait()
            [connection] = node.hub.connections.values()
            transport = connection.stream._transport  # type: ignore[union-attr]
            # More than the buffers of both kernels take: the client's writes wait for the server's reading.
            sending = asyncio.create_task(_send_many(stream))
            await soon(lambda: not transport.is_reading())
            assert not sending.done()
            _beat(connection)
            assert not transport.is_closing()
            may_end.set()
            assert (await said(stream))["event"] == "subscribed"
            assert [(await said(stream))["id"] for _ in range(TEXTS)] == list(range(TEXTS))
            await sending

    play(scenario, max_inbound_frames=10_000)


TEXTS = 60
"""Of 50,000 bytes or more each: far more than the buffers take, of which some hold the answers."""


def _beat(connection: Connection) -> None:
    """Let the time of three pings pass."""
    stream: Any = connection.stream
    for _ in range(3 * stream._streams.ping_every):
        if not stream._transport.is_closing():
            stream.beat()


async def _send_many(stream: ClientConnection) -> None:
    for number in range(TEXTS):
        await ask(stream, {"do": "ping", "id": number, "padding": "x" * 50_000})


def test_a_client_that_does_not_read_its_answers_is_not_read_either() -> None:
    """Its pongs wait for room in the transport, so they take no memory beyond the outbox; in the end it is dropped."""

    async def scenario(scene: Scene) -> None:
        async with scene.opened(max_queue=1) as stream:
            await said(stream)
            [connection] = scene.server.node.hub.connections.values()
            transport = connection.stream._transport  # type: ignore[union-attr]
            many = json.dumps([{"do": "ping", "id": "x" * 20_000}] * 5)
            sending = asyncio.create_task(_send(stream, many, TEXTS))
            await soon(lambda: connection.stream.buffered_bytes() > OUTBOX_BYTES)  # type: ignore[union-attr]
            await soon(lambda: not transport.is_reading())
            await turns(1000)
            assert not transport.is_reading()
            assert not sending.done()
            assert connection.stream.buffered_bytes() < 2 * OUTBOX_BYTES  # type: ignore[union-attr]
            for _ in range(TEXTS * 5):
                await said(stream)
            await sending
            sending = asyncio.create_task(_send(stream, many, TEXTS))
            await soon(lambda: connection.stream._paused)  # type: ignore[union-attr]
            await turns(1000)
            _beat(connection)
            assert transport.is_closing()
            sending.cancel()
            stream.transport.abort()

    play(scenario, outbox_bytes=OUTBOX_BYTES, max_inbound_frames=10_000)


OUTBOX_BYTES = 65_536


async def _send(stream: ClientConnection, text: str, count: int) -> None:
    for _ in range(count):
        await stream.send(text)


async def _end(stream: ClientConnection) -> tuple[int | None, str]:
    try:
        while True:
            await stream.recv()
    except ConnectionClosed as closed:
        assert closed.rcvd is not None
        return closed.rcvd.code, closed.rcvd.reason
