"""What callers see of a move to another process: idle connections, waiting calls and polls, listening sockets."""

import asyncio
import socket
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from tests.upgrade.stage import Stage, hold, of, play, post, texts
from tests.waiting import soon

from channelstream.core.connection import ConnectionState
from channelstream.errors import CannotHandOver
from channelstream.upgrade.taker import calls_of


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


@pytest.mark.replaces_compiled
def test_a_request_that_does_not_end_refuses_the_move(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its handler changes later would be lost; all goes on as before."""

    async def scenario(stage: Stage) -> None:
        wire, entered, left = await stage.stream("ws", "ann", "a"), asyncio.Event(), asyncio.Event()
        collect = stage.server.node.directory.channels

        async def slow(*arguments: Any, **named: Any) -> Any:
            entered.set()
            await left.wait()
            return await collect(*arguments, **named)

        monkeypatch.setattr(stage.server.node.directory, "channels", slow)
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
