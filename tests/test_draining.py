"""How a server ends that has very many streams and sockets: in short turns, and nothing that was accepted is lost."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any, cast

import pytest
from tests.conftest import StartServer
from tests.http_client import http
from tests.simulation.loop import VirtualLoop, turns
from tests.waiting import PATIENCE_S, eventually
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from channelstream import draining, housekeeping, slices
from channelstream.close_codes import CloseCode
from channelstream.config import Settings
from channelstream.core.batch import BufferBatch
from channelstream.core.events import Message
from channelstream.core.user import UserUpdate
from channelstream.draining import close_streams, spread_streams
from channelstream.http.router import Router
from channelstream.http.shared import HttpServer, HttpSettings
from channelstream.server import Server, build
from channelstream.wire.channelstream import V07
from channelstream.wire.framing import Framing
from channelstream.wire.protocols import PROTOCOLS

MANY = 30


class Sink:
    """A stream that records its writes, and whether it is closed."""

    format = PROTOCOLS.format_of(V07, Framing.POLL)

    def __init__(self) -> None:
        self.seen: list[bytes | CloseCode] = []

    def write(self, data: bytes) -> None:
        self.seen.append(data)

    def close(self, code: CloseCode, reason: str) -> None:
        self.seen.append(code)

    def buffered_bytes(self) -> int:
        return 0


class Idle:
    """A socket that is closed at once."""

    def __init__(self, http_server: HttpServer) -> None:
        self._http_server = http_server

    def stop(self) -> None:
        self._http_server.unregister(self)

    def abort(self) -> None:
        self._http_server.unregister(self)


async def opened(**options: Any) -> tuple[Server, list[Sink]]:
    server = build(Settings(secret="x", admin_secret="y", **options))
    node = server.node
    await node.start()
    sinks = [Sink() for _ in range(MANY)]
    for number, sink in enumerate(sinks):
        await node.connect(f"c{number}", f"u{number}", V07, {"a": {}}, UserUpdate({}, {}))
        connection = node.hub.connections[f"c{number}"]
        node.hub.attach(connection, sink, BufferBatch(10))
        node.hub.go_live(connection, [])
    return server, sinks


async def steps(work: Coroutine[Any, Any, None], left: Callable[[], int]) -> list[int]:
    """Do something; return how many are left after each turn of the loop."""
    task = asyncio.create_task(work)
    found = [left()]
    while not task.done():
        await asyncio.sleep(0)
        found.append(left())
    await task
    return found


def test_streams_are_closed_in_short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not all in one, however many there are."""
    monkeypatch.setattr(slices, "TURN_S", -1.0)

    async def life() -> None:
        server, sinks = await opened()

        def left() -> int:
            return sum(not sink.seen for sink in sinks)

        counts = await steps(close_streams(server.node), left)
        assert max(before - after for before, after in pairwise(counts)) == 1
        assert all(sink.seen == [CloseCode.RESTARTING] for sink in sinks)

    asyncio.run(life())


def test_accepted_events_are_written_before_a_stream_is_closed() -> None:
    """Also where it was accepted in the same turn of the loop, before any flush."""

    async def life() -> None:
        server, sinks = await opened()
        await server.node.publish([Message(uuid="m", channel="a", user="bob", payload=b"1", timestamp="t")])
        assert not any(sink.seen for sink in sinks)
        await close_streams(server.node)
        for sink in sinks:
            data, code = sink.seen
            assert b'"uuid":"m"' in cast(bytes, data)
            assert code is CloseCode.RESTARTING

    asyncio.run(life())


@pytest.mark.parametrize("end", [HttpServer.close, HttpServer.abort])
def test_sockets_are_closed_in_short_turns(
    monkeypatch: pytest.MonkeyPatch, end: Callable[[HttpServer], Coroutine[Any, Any, None]]
) -> None:
    """Idle connections do not delay pending answers."""
    monkeypatch.setattr(slices, "TURN_S", -1.0)

    async def life() -> None:
        policy = build(Settings(secret="x", admin_secret="y")).streams.policy
        http_server = HttpServer(HttpSettings(), Router(policy, ()))
        for _ in range(MANY):
            http_server.register(Idle(http_server))
        counts = await steps(end(http_server), lambda: len(http_server._sockets))
        assert max(before - after for before, after in pairwise(counts)) == 1
        assert counts[-1] == 0

    asyncio.run(life())


@pytest.mark.parametrize("drain_timeout_s", [0, 0.001])
def test_all_streams_are_closed_however_short_the_drain(
    monkeypatch: pytest.MonkeyPatch, drain_timeout_s: float
) -> None:
    """The timeout starts when all clients have been sent their accepted events and the request to reconnect."""
    monkeypatch.setattr(slices, "TURN_S", -1.0)

    async def life() -> None:
        server, sinks = await opened(drain_timeout_s=drain_timeout_s)
        await server.node.publish([Message(uuid="m", channel="a", user="bob", payload=b"1", timestamp="t")])
        await server._shut_down()
        for sink in sinks:
            data, code = sink.seen[:2]
            assert b'"uuid":"m"' in cast(bytes, data)
            assert code is CloseCode.RESTARTING

    asyncio.run(life())


@pytest.mark.replaces_compiled
def test_nobody_expires_while_the_last_sockets_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients cannot come back before the next start, however long the drain waits for the slowest of them."""
    monkeypatch.setattr(housekeeping, "SWEEP_INTERVAL_S", 0.0)
    swept: list[int] = []
    during: list[int] = []

    async def life() -> None:
        server, _ = await opened()

        async def sweep() -> None:
            swept.append(1)

        async def close() -> None:
            before = len(swept)
            await turns(20)
            during.append(len(swept) - before)

        server.node.sweep = sweep  # type: ignore[method-assign]
        server._http_server.close = close  # type: ignore[method-assign]
        server._housekeeping.start()
        await turns(20)
        assert swept
        await server._shut_down()

    asyncio.run(life())
    assert during == [0]


def test_streams_are_closed_over_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """At even intervals, in random order; it returns at the end of the time."""
    monkeypatch.setattr(draining, "shuffle", lambda connections: connections.reverse())
    closed_s: dict[int, float] = {}

    async def life() -> float:
        server, sinks = await opened()
        loop = asyncio.get_running_loop()
        for number, sink in enumerate(sinks):
            sink.close = lambda code, reason, number=number: closed_s.update({number: loop.time()})  # type: ignore[method-assign]
        await spread_streams(server.node, 60.0)
        return loop.time()

    loop = VirtualLoop()
    try:
        ended_s = loop.run_until_complete(life())
    finally:
        loop.close()
    assert list(closed_s) == list(reversed(range(MANY)))
    assert list(closed_s.values()) == pytest.approx([60.0 * number / MANY for number in range(MANY)])
    assert ended_s == pytest.approx(60.0)


@pytest.mark.slow
def test_calls_are_answered_while_streams_are_closed(start_server: StartServer) -> None:
    """New connections and streams are refused, readiness is false; a Ctrl-C ends it at once."""
    server = start_server("--drain-spread-s=3600")
    with connect(f"{server.ws_url}/ws?conn_id={server.connect('ann', 'a')}") as stream:
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: http.get(f"{server.url}/readyz").text == "draining", "the drain does not begin")
        assert http.get(f"{server.url}/healthz").status_code == 200
        server.post("/message", {"channel": "a", "user": "app", "message": "late"})
        refused = server.request("POST", "/connect", {"username": "bob"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                stream.recv(PATIENCE_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == CloseCode.RESTARTING
        code, log = server.stop()
    assert code == 0
    assert "Traceback" not in log
