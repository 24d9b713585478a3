"""What clients and applications see of a move to another process: nothing, unless a client does not read."""

import asyncio
import json
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import SECRET
from tests.e2e.wire import open_wire
from tests.redis_server import RedisServer
from tests.signing import signature
from tests.transports.in_process import CLIENT_BUFFER_BYTES, UPGRADE
from tests.upgrade.stage import Stage, hold, items, of, over_a_line, play, post, texts
from tests.waiting import PATIENCE_S, soon
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from channelstream.close_codes import CloseCode
from channelstream.core.connection import ConnectionState
from channelstream.core.user import UserUpdate
from channelstream.engines.base import Receiver
from channelstream.errors import CannotHandOver
from channelstream.server import Server
from channelstream.transports import websocket
from channelstream.upgrade.taker import Taker, calls_of
from channelstream.wire.channelstream import V07
from channelstream.wire.websocket import close_frame

STREAMS = {"ws": "websocket", "sse": "sse"}


@pytest.fixture(params=["memory", "sqlite", "redis"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an engine."""
    if request.param != "redis":
        return "memory" if request.param == "memory" else f"sqlite:///{tmp_path}/state.db"
    redis: RedisServer = request.getfixturevalue("redis")
    redis.cli("FLUSHALL")
    return redis.address


@pytest.fixture
def patient_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client may take long to read its close code."""
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT_S", PATIENCE_S)


@pytest.fixture(params=["committed", "thawed"])
def move(request: pytest.FixtureRequest) -> Callable[[Stage], Any]:
    """What is tried: a move to another process, and one of which nothing comes."""
    return Stage.upgrade if request.param == "committed" else Stage.fail


@pytest.mark.parametrize("transport", STREAMS)
def test_a_stream_goes_on(transport: str, engine: str, move: Callable[[Stage], Any]) -> None:
    """Without an end, a loss or a repetition, and also what was published while it moved is delivered."""

    async def scenario(stage: Stage) -> None:
        wire = await stage.stream(transport, "ann", "a")
        await stage.publish("before")
        assert await texts(wire, 1) == ["before"]
        await stage.publish("last")
        tally = await move(stage)
        assert (tally[STREAMS[transport]], tally["ended"]) == (1, 0)
        await stage.publish("after", "then")
        assert await texts(wire, 3) == ["last", "after", "then"]

    play(scenario, engine=engine)


def test_a_signed_request_is_not_answered_again(engine: str, move: Callable[[Stage], Any]) -> None:
    """The nonces move, too; and what was signed before the move, and not sent, is answered after it."""

    async def scenario(stage: Stage) -> None:
        wire, content = await stage.calls(), {"info": {}}

        async def status(signed: dict[str, str]) -> int:
            return (await wire.post("/info", content, signed))[0]

        body = json.dumps(content).encode()
        used, unused = (signature(SECRET, "POST", "/info", body) for _ in range(2))
        assert await status(used) == 200
        await move(stage)
        assert [await status(each) for each in (used, unused, unused)] == [401, 200, 401]

    play(scenario, engine=engine)


@pytest.mark.parametrize("compression", [False, True])
def test_a_stream_of_an_older_client_goes_on(compression: bool) -> None:
    """It has no position, and is sent each message once; also compressed."""

    async def scenario(stage: Stage) -> None:
        await stage.register("ann", "a")
        async with connect(stage.url("ann")) as stream:
            assert bool(stream.protocol.extensions) == compression
            await stage.publish("before")
            await stage.upgrade()
            await stage.publish("after")
            found: list[str] = []
            while len(found) < 2:
                found += [item["message"]["text"] for item in json.loads(await stream.recv())]
            assert found == ["before", "after"]

    play(scenario, compression=compression)


def test_a_stream_with_tls_resumes(certificate: tuple[str, str], patient_close: None) -> None:
    """The state of its encryption cannot move: it is closed with 1012, and the new process has the port."""
    cert, key = certificate
    trust = ssl.create_default_context(cafile=cert)

    async def scenario(stage: Stage) -> None:
        await stage.server.node.connect(of("ann"), "ann", V07, {"a": {}}, UserUpdate({}, {}))
        url = stage.url("ann").replace("ws:", "wss:")
        async with connect(url, ssl=trust) as stream:
            await soon(lambda: stage.server.node.hub.connections[of("ann")].stream is not None)
            tally = await stage.upgrade()
            assert (tally["websocket"], tally["ended"]) == (0, 1)
            with pytest.raises(ConnectionClosedError) as ended:
                while True:
                    await stream.recv()
            assert ended.value.rcvd is not None
            assert ended.value.rcvd.code == CloseCode.RESTARTING
        async with connect(url, ssl=trust):
            await soon(lambda: stage.server.node.hub.connections[of("ann")].stream is not None)

    play(scenario, ssl_certfile=cert, ssl_keyfile=key)


def test_a_client_whose_stream_ends_has_all_its_time_to_come_back(
    certificate: tuple[str, str], patient_close: None
) -> None:
    """It is counted from when the new process serves all streams: the copy before may have taken long."""
    cert, key = certificate
    trust = ssl.create_default_context(cafile=cert)
    sent_s = 0.0

    async def note() -> None:
        nonlocal sent_s
        sent_s = time.monotonic()

    async def scenario(stage: Stage) -> None:
        stage.when_sent = note
        await stage.server.node.connect(of("ann"), "ann", V07, {"a": {}}, UserUpdate({}, {}))
        async with connect(stage.url("ann").replace("ws:", "wss:"), ssl=trust):
            await soon(lambda: stage.server.node.hub.connections[of("ann")].stream is not None)
            await stage.upgrade()
        node = stage.server.node
        deadline_s = node.hub.connections[of("ann")].deadline_s
        assert deadline_s is not None
        assert deadline_s >= sent_s + node.limits.restored_s

    play(scenario, ssl_certfile=cert, ssl_keyfile=key)


def test_what_a_client_has_begun_to_send_goes_on(move: Callable[[Stage], Any]) -> None:
    """A frame that is half there when its stream moves is answered when it is whole."""

    async def scenario(stage: Stage) -> None:
        wire = await stage.stream("ws", "ann", "a")
        ping = b"\x89\x84\0\0\0\0half"
        wire._writer.write(ping[:8])
        await stage.reads(wire)
        await move(stage)
        wire._writer.write(ping[8:])
        while (frame := await wire._frame())[0] != 0x8A:  # type: ignore[attr-defined]
            pass
        assert frame[1] == b"half"

    play(scenario)


def test_what_a_client_sends_after_the_copy_goes_on() -> None:
    """A frame that was begun before and is whole now, and one that was begun after it."""

    async def scenario(stage: Stage) -> None:
        ping = b"\x89\x84\0\0\0\0half"
        early, late = await stage.stream("ws", "ann", "a"), await stage.stream("ws", "bob", "a")
        await stage.publish("before")
        for wire in (early, late):
            assert await texts(wire, 1) == ["before"]
        early._writer.write(ping[:8])
        await stage.reads(early)

        async def go_on() -> None:
            early._writer.write(ping[8:])
            late._writer.write(ping[:8])
            for wire in (early, late):
                await stage.reads(wire)

        stage.after_copy = go_on
        await stage.upgrade()
        late._writer.write(ping[8:])
        early._writer.write(ping)
        for wire in (early, early, late):
            while (frame := await wire._frame())[0] != 0x8A:  # type: ignore[attr-defined]
                pass
            assert frame[1] == b"half"

    play(scenario)


@pytest.mark.parametrize("transport", STREAMS)
def test_a_stream_that_ends_after_the_copy_ends_for_its_client(transport: str) -> None:
    """At once, though the new process has a descriptor of it."""

    async def scenario(stage: Stage) -> None:
        wire = await stage.stream(transport, "ann", "a")
        await stage.publish("before")
        assert await texts(wire, 1) == ["before"]

        async def end() -> None:
            await stage.call("/disconnect", {"conn_id": of("ann")})
            if transport == "ws":
                wire._writer.write(b"\x88\x80\0\0\0\0")
            while await wire._reader.read(1000):
                pass

        stage.after_copy = end
        tally = await stage.upgrade()
        assert (tally[STREAMS[transport]], tally["ended"]) == (0, 0)

    play(scenario)


def test_nobody_joins_or_parts(engine: str) -> None:
    async def scenario(stage: Stage) -> None:
        await stage.call("/channel_config", [["a", {"notify_presence": True}]])
        watcher = await stage.stream("ws", "ann", "a")
        await stage.stream("sse", "bob", "a")
        while (await items(watcher))[-1]["type"] != "presence":
            pass
        await stage.upgrade()
        await stage.publish("after")
        assert [item["type"] for item in await items(watcher)] == ["message"]
        info = await stage.call("/info", {"info": {"channels": ["a"]}})
        assert sorted(info["channels"]["a"]["users"]) == ["ann", "bob"]

    play(scenario, engine=engine)


def test_the_state_stays(engine: str) -> None:
    """Settings, history, states of users and private messages are answered as before."""

    async def scenario(stage: Stage) -> None:
        await stage.call("/channel_config", [["a", {"store_history": True, "history_size": 2}]])
        await stage.stream("ws", "ann", "a", "b")
        await stage.call("/user_state", {"user": "ann", "user_state": {"age": 7, "name": "A"}})
        await stage.publish("one", "two", "three")
        asked = {"info": {"channels": ["a", "b"], "include_history": True, "include_connections": True}}
        before = await stage.call("/info", asked)
        await stage.upgrade()
        after = await stage.call("/info", asked)
        assert without_times(after) == without_times(before)

    play(scenario, engine=engine)


def test_a_client_that_is_away_resumes(engine: str) -> None:
    """From its position, with all that it missed before and after the move."""

    async def scenario(stage: Stage) -> None:
        wire = await stage.stream("ws", "ann", "a")
        await stage.publish("seen")
        while (seen := (await items(wire))[-1])["type"] != "message":
            pass
        await wire.close()
        await stage.publish("missed")
        await stage.upgrade()
        await stage.publish("missed too")
        again = await open_wire("ws", stage.port)
        stage.wires.append(again)
        await again.ask(of("ann"), seen["position"])
        [resumed] = await items(again)
        assert (resumed["recovered"], resumed["lost"]) == (["", "a"], [])
        assert await texts(again, 2) == ["missed", "missed too"]

    play(scenario, engine=engine)


def test_what_changes_after_the_copy_moves_as_it_is_then(engine: str) -> None:
    """Connections that came, ended or were registered again, and channels that they joined or left."""

    async def scenario(stage: Stage) -> None:
        stays = await stage.stream("ws", "ann", "a", "b")
        ends = await stage.stream("ws", "bob", "a")
        await stage.register("cid", "a")

        async def change() -> None:
            await stage.call("/subscribe", {"conn_id": of("ann"), "channels": ["c"]})
            await stage.call("/unsubscribe", {"conn_id": of("ann"), "channels": ["b"]})
            for user in ("bob", "cid"):
                await stage.call("/disconnect", {"conn_id": of(user)})
            await stage.register("cid", "c")
            stage.late = await stage.stream("sse", "dee", "c")
            before.append(await stage.call("/info", asked))

        before: list[Any] = []
        asked = {"info": {"include_users": True, "include_connections": True}}
        stage.after_copy = change
        tally = await stage.upgrade()
        assert (tally["websocket"], tally["sse"], tally["ended"]) == (1, 1, 0)
        assert [without_times(await stage.call("/info", asked))] == list(map(without_times, before))
        await stage.publish("after", channel="c")
        for wire in (stays, stage.late):
            assert await texts(wire, 1) == ["after"]
        assert sorted(stage.server.node.hub.connections) == sorted(map(of, ("ann", "cid", "dee")))
        await ends.close()

    play(scenario, engine=engine)


def test_an_idle_connection_goes_on(move: Callable[[Stage], Any]) -> None:
    """A caller that keeps its connection open is not disconnected, also in the middle of the head of a request."""

    async def scenario(stage: Stage) -> None:
        idle, half = await stage.calls(), await stage.calls()
        for wire in (idle, half):
            await post(wire, "/info", {})
        half._writer.write(b"GET /healthz HTT")
        await stage.reads(half)
        tally = await move(stage)
        assert tally["http"] == 2
        # Else the time for a head would run for the idle one.
        phases = [each._waiting.phase for each in stage.server.parts.http_server.sockets]
        assert sorted(each.name for each in phases) == ["HEAD", "IDLE"]
        assert "channels" in await post(idle, "/info", {})
        half._writer.write(b"P/1.1\r\nHost: x\r\n\r\n")
        assert (await half._head())[0] == 200

    play(scenario)


def test_connections_with_calls_are_served_first() -> None:
    """A call is received already, or waits in the kernel. Very many other connections may be idle, or have polls."""
    pairs = [socket.socketpair() for _ in range(6)]
    for (near, _), sent in zip(pairs, (b"", b"POST /message", b"GET /listen", b"", b"PO", b""), strict=True):
        near.send(sent)
    pairs[5][0].close()
    ends = [far.fileno() for _, far in pairs]
    received = dict.fromkeys(ends, b"") | {ends[3]: b"POST /connect"}
    assert calls_of(list(received.items())) == [(ends[1], b""), (ends[3], b"POST /connect")]
    assert pairs[1][1].recv(20) == b"POST /message"
    for each in chain(*pairs):
        each.close()


def test_a_waiting_poll_is_answered(move: Callable[[Stage], Any]) -> None:
    """With an empty list; the next poll on the same connection is read by the next process."""

    async def scenario(stage: Stage) -> None:
        wire = await stage.stream("poll", "ann", "a")
        [first] = await wire.items()
        await wire.ask(of("ann"), first["position"])
        await soon(lambda: stage.server.node.hub.connections[of("ann")].state is ConnectionState.LIVE)
        await move(stage)
        assert [item["type"] for item in await wire.items()] == ["resumed"]
        await wire.ask(of("ann"), first["position"])
        await stage.publish("after")
        assert await texts(wire, 1) == ["after"]

    play(scenario)


def test_new_connections_wait(move: Callable[[Stage], Any]) -> None:
    """Those that come while nothing is accepted are accepted afterwards."""

    async def scenario(stage: Stage) -> None:
        async def knock() -> None:
            stage.late = await stage.calls()
            stage.late._writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")

        stage.while_frozen = knock
        await move(stage)
        assert (await stage.late._head())[0] == 200

    play(scenario)


def test_a_client_that_does_not_read_resumes(patient_close: None) -> None:
    """What the kernel does not take of its stream stays in the old process, which closes it with 1012."""

    async def scenario(stage: Stage) -> None:
        await stage.register("ann", "a")
        with socket.socket() as client:
            # A window that does not grow: what the server's kernel cannot send stays there.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CLIENT_BUFFER_BYTES)
            client.connect(("127.0.0.1", stage.port))
            client.setblocking(False)
            client.send(UPGRADE % of("ann").encode())
            while not stage.server.node.stalls:
                await stage.publish("x" * 60_000)
            tally = await stage.upgrade()
            assert (tally["websocket"], tally["ended"]) == (0, 1)
            received, loop = bytearray(), asyncio.get_running_loop()
            while close_frame(CloseCode.RESTARTING, "the server restarts") not in received:
                part = await loop.sock_recv(client, 1 << 20)
                assert part, "it was closed without a code"
                received = (received + part)[-1_100_000:]
        await soon(lambda: stage.old[0].parts.streams.heartbeat.count == 0, "the old process keeps it")

    play(scenario, upgrade_pause_s=0.01)


def test_a_request_that_does_not_end_refuses_the_move(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its handler changes later would be lost; all goes on as before."""

    async def scenario(stage: Stage) -> None:
        wire, entered, left = await stage.stream("ws", "ann", "a"), asyncio.Event(), asyncio.Event()
        collect = stage.server.node.channels

        async def slow(*arguments: Any, **named: Any) -> Any:
            entered.set()
            await left.wait()
            return await collect(*arguments, **named)

        monkeypatch.setattr(stage.server.node, "channels", slow)
        asked = asyncio.create_task(stage.call("/info", {}))
        await entered.wait()
        held = stage.giver()
        with pytest.raises(CannotHandOver, match="a request takes longer"):
            await hold(held)
        await held.thaw()
        left.set()
        assert "channels" in await asked
        await stage.publish("after")
        assert await texts(wire, 1) == ["after"]

    play(scenario, upgrade_pause_s=0.01)


def test_a_connection_waits_as_long_as_before() -> None:
    """One without a stream has the rest of its time, and not that of a new one, nor of one whose stream is lost."""

    async def scenario(stage: Stage) -> None:
        await stage.register("ann", "a")
        connection = stage.server.node.hub.connections[of("ann")]
        stage.server.node.local.departures.extend(connection, 100_000.0)
        before_s = connection.deadline_s
        stage.settings = replace(stage.settings, unattached_timeout_s=10.0)
        await stage.upgrade()
        after_s = stage.server.node.hub.connections[of("ann")].deadline_s
        assert after_s == pytest.approx(before_s, abs=600)

    play(scenario)


def test_connections_are_there_before_the_engine_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine of many nodes unregisters, when it starts, what its node does not have."""
    counts: list[int] = []

    async def scenario(stage: Stage) -> None:
        await stage.register("ann", "a")
        node_of_new = stage.new

        def new(**more: Any) -> Server:
            server = node_of_new(**more)
            start = server.node._engine.start

            async def counted(receiver: Receiver) -> None:
                counts.append(len(server.node.hub.connections))
                await start(receiver)

            monkeypatch.setattr(server.node._engine, "start", counted)
            return server

        monkeypatch.setattr(stage, "new", new)
        await stage.upgrade()

    play(scenario)
    assert counts == [1]


def test_the_path_of_a_unix_socket_moves(tmp_path: Path) -> None:
    """The old process leaves it, and the new one removes it at its end."""
    path = tmp_path / "s.sock"

    async def scenario(stage: Stage) -> None:
        await stage.server.parts.listener.listen_at_path(str(path))
        await stage.upgrade()
        stage.old[0].parts.listener.close()
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b" 200 " in await reader.read()
        writer.close()

    play(scenario)
    assert not path.exists()


def test_another_engine_is_refused(tmp_path: Path) -> None:
    """A new process with another configuration does not begin with nothing."""

    async def scenario(stage: Stage) -> None:
        await stage.call("/info", {})
        held, other = stage.giver(), stage.new(engine=f"sqlite:///{tmp_path}/other.db")
        with pytest.raises(CannotHandOver, match="the engine has changed"):
            await over_a_line(held.copy(), Taker(other.parts))
        await held.thaw()

    play(scenario)


def without_times(info: Any) -> Any:
    """Return an answer without times of last use, which are those of the move for what is in use."""
    if isinstance(info, dict):
        return {key: without_times(each) for key, each in info.items() if key != "last_active"}
    return [without_times(each) for each in info] if isinstance(info, list) else info


def test_the_figures_of_the_past_lack_nothing_of_the_time_before(engine: str) -> None:
    """Not only those of intervals that have ended: the longest one is ten minutes."""

    async def scenario(stage: Stage) -> None:
        await stage.upgrade()
        for name in ("hour", "day", "week"):
            assert await stage.server.node.time_series.read(f"figures of {name}", 0.0), name

    play(scenario, engine=engine)


def test_a_connection_that_was_just_accepted_moves() -> None:
    """The loop has accepted it, and not yet called its protocol, when a server with nothing to wait for is held."""

    async def scenario(stage: Stage) -> None:
        giver = stage.giver()
        async for _ in giver.copy():
            pass
        await giver.hold_streams()
        clients = [socket.create_connection(("127.0.0.1", stage.port)) for _ in range(3)]
        await asyncio.sleep(0)
        await giver.freeze()
        async for _ in giver.parts():
            pass
        assert giver.tally["http"] == len(clients)
        await giver.thaw()
        for client in clients:
            client.close()

    play(scenario)


def test_a_connection_moves_with_the_request_behind_the_one_just_answered() -> None:
    """It is read already, and would begin in the next turn of the loop."""
    request = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"

    async def scenario(stage: Stage) -> None:
        giver, wire = stage.giver(), await stage.calls()
        await soon(lambda: len(stage.server.parts.http_server.sockets) == 1)
        async for _ in giver.copy():
            pass
        await giver.hold_streams()
        wire._writer.write(2 * request)
        await giver.freeze()
        async for _ in giver.parts():
            pass
        assert giver.tally["http"] == 1
        await giver.thaw()
        for _ in range(2):
            status, fields = await wire._head()
            await wire._reader.readexactly(int(fields["content-length"]))
            assert status == 200

    play(scenario)
