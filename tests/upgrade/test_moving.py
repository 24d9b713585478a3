"""What clients see of the move of their streams to another process: nothing, unless a client does not read."""

import asyncio
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
from tests.descriptors import open_descriptors
from tests.e2e.wire import open_wire
from tests.redis_server import RedisServer
from tests.transports.in_process import CLIENT_BUFFER_BYTES, UPGRADE
from tests.upgrade.stage import Stage, code_of, end, hold, items, of, over_a_line, play, texts
from tests.waiting import PATIENCE_S, soon
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from channelstream.close_codes import CloseCode
from channelstream.core.user import UserUpdate
from channelstream.errors import CannotHandOver, Unavailable
from channelstream.server import Server
from channelstream.transports import websocket
from channelstream.upgrade import snapshot
from channelstream.upgrade import taker as taker_module
from channelstream.upgrade.line import Part
from channelstream.upgrade.snapshot import CONNECTIONS, LISTENING, METRICS, STATE, encode
from channelstream.upgrade.taker import Taker
from channelstream.wire.channelstream import V07
from channelstream.wire.frames import close_frame

STREAMS = {"ws": "websocket", "sse": "sse"}


@pytest.fixture
def patient_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client may take long to read its close code."""
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT_S", PATIENCE_S)


def test_what_is_copied_is_built_before_calls_wait(engine: str) -> None:
    """To build very many connections takes long."""

    async def scenario(stage: Stage) -> None:
        await stage.register("ann", "a")
        giver, new = stage.giver(), stage.new()
        taker = Taker(new.parts)
        await over_a_line(giver.copy(), taker)
        await taker.build()
        assert list(new.node.hub.connections) == [of("ann")]
        await giver.thaw()

    play(scenario, engine=engine)


def test_an_id_that_is_used_again_after_the_copy_is_that_of_its_new_user(engine: str) -> None:
    """Also where the new connection is in the same channels: it would receive the private messages of another user."""

    async def scenario(stage: Stage) -> None:
        await stage.register("ann", "a")

        async def use_again() -> None:
            await stage.call("/disconnect", {"conn_id": of("ann")})
            await stage.call("/connect", {"username": "bob", "conn_id": of("ann"), "channels": ["a"]})

        stage.after_copy = use_again
        await stage.upgrade()
        assert stage.server.node.hub.connections[of("ann")].user == "bob"

    play(scenario, engine=engine)


def test_who_has_opened_a_stream_after_the_copy_is_known(engine: str) -> None:
    """The admin pages of the new process show it."""

    async def scenario(stage: Stage) -> None:
        await stage.register("ann", "a")

        async def open_stream() -> None:
            wire = await open_wire("ws", stage.port)
            stage.wires.append(wire)
            await wire.ask(of("ann"), "")
            assert stage.server.node.hub.connections[of("ann")].client is not None

        stage.after_copy = open_stream
        await stage.upgrade()
        assert stage.server.node.hub.connections[of("ann")].client is not None

    play(scenario, engine=engine)


def test_a_copy_that_ends_early_leaves_no_descriptor() -> None:
    """As if the new process had ended while it was sent the streams."""

    async def scenario(stage: Stage) -> None:
        await stage.stream("ws", "ann", "a")
        before = open_descriptors()
        async for part in stage.giver().copy():
            if part.kind == snapshot.STREAMS:
                break
        assert len(part.descriptors) == 1
        await soon(lambda: open_descriptors() == before)

    play(scenario)


@pytest.mark.parametrize("kind", [LISTENING, METRICS, CONNECTIONS, STATE])
def test_a_state_that_is_not_whole_is_not_taken(kind: str, engine: str) -> None:
    """The old process goes on."""

    async def scenario(stage: Stage) -> None:
        wire = await stage.stream("ws", "ann", "a")
        giver, taker = stage.giver(), Taker(stage.new().parts)
        await over_a_line(giver.copy(), taker)
        await hold(giver)
        parts = [part async for part in giver.parts()]
        *_, last = (number for number, part in enumerate(parts) if part.kind == kind)
        if kind in (LISTENING, METRICS):
            del parts[last]
        else:
            parts[last] = Part(kind, parts[last].body[:-1])
        await over_a_line(each(parts), taker)
        with pytest.raises(CannotHandOver, match="a part of the snapshot is missing"):
            await taker.prepared()
        end(taker)
        await giver.thaw()
        await stage.publish("after")
        assert await texts(wire, 1) == ["after"]

    play(scenario, engine=engine)


@pytest.mark.replaces_compiled
def test_a_state_that_is_too_large_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """All parts together count: the new process would take the memory of the machine."""
    monkeypatch.setattr(taker_module, "MAX_BYTES", 5)

    async def scenario(stage: Stage) -> None:
        taker = Taker(stage.new().parts)
        part = Part(LISTENING, encode(False))
        for _ in range(5):
            await taker.take(part)
        with pytest.raises(CannotHandOver, match="the snapshot is too large"):
            await taker.take(part)

    play(scenario)


def test_streams_that_are_continued_have_their_heartbeats_one_after_the_other() -> None:
    """They are added in a few turns, and all of them at once would be one long turn in each round."""

    async def scenario(stage: Stage) -> None:
        for number in range(20):
            await stage.stream("sse", f"u{number}", "a")
        await stage.upgrade()
        heartbeat = stage.server.parts.streams.heartbeat
        assert [len(slot) for slot in heartbeat._slots if slot] == [1] * 20
        assert not heartbeat.spreads

    play(scenario)


async def each(parts: list[Part]) -> AsyncIterator[Part]:
    for part in parts:
        yield part


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


@pytest.mark.parametrize("transport", STREAMS)
def test_a_stream_ends_if_the_log_is_replaced_meanwhile(
    transport: str, redis: RedisServer, move: Callable[[Stage], Any]
) -> None:
    """Before it goes on, here or there: its client is not left to believe that it has everything."""
    redis.cli("FLUSHALL")

    async def lose() -> None:
        redis.cli("FLUSHALL")

    async def notice(server: Server) -> None:
        node, before = server.node, server.node.position.epochs
        await lose()
        with suppress(Unavailable):
            await node.head(all_shards=True)
        await soon(lambda: node.position.epochs != before)

    async def scenario(stage: Stage) -> None:
        wire = await stage.stream(transport, "ann", "a")
        await stage.publish("before")
        while (seen := (await items(wire))[-1])["type"] != "message":
            pass
        if move is Stage.upgrade:
            stage.when_prepared = notice
        else:
            stage.when_sent = lose
        await move(stage)
        assert await code_of(wire) == CloseCode.RESTARTING
        again = await open_wire(transport, stage.port)
        stage.wires.append(again)
        await again.ask(of("ann"), seen["position"])
        [resumed] = await items(again)
        assert (resumed["recovered"], resumed["lost"]) == ([], ["", "a"])

    play(scenario, engine=redis.address)


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


def test_a_later_upgrade_hands_over_what_a_failed_one_had_copied() -> None:
    """Nothing of it stays here, neither streams nor idle connections."""

    async def scenario(stage: Stage) -> None:
        wire = await stage.stream("ws", "ann", "a")
        await stage.fail()
        tally = await stage.upgrade()
        assert (tally["websocket"], tally["ended"]) == (1, 0)
        assert not stage.old[0].parts.http_server.sockets
        await stage.publish("after")
        assert await texts(wire, 1) == ["after"]

    play(scenario)


def test_a_client_that_has_begun_to_send_very_much_resumes(patient_close: None) -> None:
    """What it has begun is no part of a snapshot, so its stream stays in the old process, which closes it with 1012."""

    async def scenario(stage: Stage) -> None:
        wire = await stage.stream("ws", "ann", "a")
        wire._writer.write(
            b"\x81\xff" + (2 * snapshot.PART_BYTES).to_bytes(8) + bytes(4 + snapshot.PART_BYTES)
        )
        await wire._writer.drain()
        await stage.reads(wire)
        tally = await stage.upgrade()
        assert (tally["websocket"], tally["ended"]) == (0, 1)
        assert await code_of(wire) == CloseCode.RESTARTING

    play(scenario, max_inbound_bytes=4 * snapshot.PART_BYTES)
