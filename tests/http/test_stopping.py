"""How the connections of a server end when it stops."""

import asyncio

import pytest
from tests.http.stage import GET, POST, Gate, Stage, play, read_all, turns
from tests.waiting import PATIENCE_S, soon

from channelstream import slices


@pytest.mark.parametrize("data", [b"", GET[:-3], GET + GET[:-3], POST % 3 + b"ab", GET])
def test_stopping_closes_connections_without_a_request(data: bytes) -> None:
    """Idle connections and half-sent requests close at once; a half-sent request has no answer."""

    async def scene(stage: Stage) -> None:
        stage.answer = read_all
        client = await stage.dial()
        await client.send(data)
        await turns()
        before = data.count(GET)
        await asyncio.wait_for(stage.http_server.close(), PATIENCE_S)
        assert (await client.rest()).count(b"HTTP/1.1") == before

    play(scene)


def test_many_connections_are_stopped_in_short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in each here."""
    monkeypatch.setattr(slices, "TURN_S", -1.0)

    async def scene(stage: Stage) -> None:
        for _ in range(20):
            await stage.dial()
        closing, count = asyncio.ensure_future(stage.http_server.close()), 0
        while not closing.done():
            await asyncio.sleep(0)
            count += 1
        assert count >= 20

    play(scene)


def test_stopping_waits_for_an_answer() -> None:
    """The request at hand is answered with `connection: close`; those behind it are not begun."""

    async def scene(stage: Stage) -> None:
        gate = stage.answer = Gate()
        client = await stage.dial()
        await client.send(GET * 3)
        await soon(lambda: bool(stage.asked))
        closing = asyncio.ensure_future(stage.http_server.close())
        await turns()
        assert not closing.done()
        gate.opens.set()
        answer = await client.rest()
        assert answer.count(b"HTTP/1.1 200 ") == answer.count(b"\r\nconnection: close\r\n") == 1
        await closing

    play(scene)


def test_dropping_closes_unfinished_connections(caplog: pytest.LogCaptureFixture) -> None:
    """Requests without an answer and answers without a reader are dropped without an error."""

    async def scene(stage: Stage) -> None:
        stage.answer = Gate()
        client = await stage.dial()
        await client.send(GET)
        await soon(lambda: bool(stage.asked))
        await stage.http_server.abort()
        await asyncio.wait_for(stage.http_server.close(), PATIENCE_S)
        assert await client.rest() == b""

    play(scene)
    assert caplog.records == []
