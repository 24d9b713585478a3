"""Requests of very many clients that arrive in one turn of the loop."""

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest
from tests.http.stage import GET, Stage, play

from channelstream.http import shared
from channelstream.http.connection import HttpConnection
from channelstream.http.waiting import LATE_HEAD
from channelstream.slices import TurnQueue

MANY = 11


def crowd(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> TurnQueue:
    """Let one client be a crowd, and return the turns, in each of which one is read."""
    monkeypatch.setattr(shared, "READS_AT_ONCE", 0)
    stage.http_server.inbound = TurnQueue(1)
    return stage.http_server.inbound


def test_requests_with_the_heads_before_are_read_in_short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """As all others are."""
    monkeypatch.setattr(shared, "READS_AT_ONCE", 4)

    async def scene(stage: Stage) -> None:
        clients = [await stage.dial() for _ in range(MANY)]
        for client in clients:
            await client.send(GET)
            await client.until(b"ok")

        def send() -> None:
            for client in clients:
                client.connection.data_received(GET)

        counts = [MANY]
        asyncio.get_running_loop().call_soon(send)
        while counts[-1] < 2 * MANY:
            await asyncio.sleep(0)
            counts.append(len(stage.asked))
        assert [after - before for before, after in pairwise(counts) if after > before] == [4, 4, 3]

    play(scene)


def test_requests_of_many_clients_are_read_in_short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of arrival, and all that a client has sent meanwhile."""
    monkeypatch.setattr(shared, "READS_AT_ONCE", 4)

    async def scene(stage: Stage) -> None:
        clients = [await stage.dial() for _ in range(MANY)]

        def send() -> None:
            for number, client in enumerate(clients):
                client.connection.data_received(GET.replace(b"/a", b"/%d" % number))
            clients[-1].connection.data_received(GET)

        counts = [0]
        asyncio.get_running_loop().call_soon(send)  # Not in a task: see `run_eagerly`.
        while counts[-1] < MANY:
            await asyncio.sleep(0)
            counts.append(len(stage.asked))
        assert [after - before for before, after in pairwise(counts) if after > before] == [4, 4, 3]
        assert stage.asked == [f"/{number}" for number in range(MANY)]
        clients[-1].end()
        assert (await clients[-1].rest()).count(b"200 OK") == 2

    play(scene)


@pytest.mark.parametrize(
    "act",
    [
        lambda connection: connection._waiting.close_if_idle(connection),
        HttpConnection.stop,
        lambda connection: connection._waiting.time_is_up(connection, LATE_HEAD),
        lambda connection: connection.eof_received(),
    ],
    ids=["idle", "stop", "late", "eof"],
)
def test_a_request_that_waits_for_its_turn_is_answered(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[HttpConnection], object]
) -> None:
    """Whatever ends the connection meanwhile: the client has sent the request before."""

    async def scene(stage: Stage) -> None:
        inbound = crowd(stage, monkeypatch)
        client = await stage.dial()
        await client.send(GET)
        await client.until(b"ok")
        await asyncio.sleep(0)
        assert inbound.has_room()
        client.connection.data_received(GET)
        assert len(stage.asked) == 1
        act(client.connection)
        await client.until(b"ok")
        assert len(stage.asked) == 2

    play(scene)


def test_nothing_is_read_of_a_client_that_waits_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """So what waits of one client is at most one packet; it is read again afterwards."""

    async def scene(stage: Stage) -> None:
        inbound = crowd(stage, monkeypatch)
        client = await stage.dial()
        await asyncio.sleep(0)
        assert inbound.has_room()
        client.connection.data_received(GET[:9])
        assert not client.transport.is_reading()
        await client.send(GET[9:])
        await client.until(b"ok")
        assert client.transport.is_reading()

    play(scene)
