"""Sockets of clients that have gone are closed a few in each turn of the loop."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from tests.transports.in_process import Stage, play

from channelstream.http import closing
from channelstream.http.closing import ClosingQueue
from channelstream.transports.sse import SSEStream
from channelstream.transports.websocket import WebSocketStream


class Line(asyncio.Transport):
    """A transport that records whether it was closed."""

    def __init__(self, tls: object = None) -> None:
        super().__init__({"sslcontext": tls})
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


def test_many_simultaneous_ends_are_closed_in_short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them in the end, and those that leave meanwhile, too."""
    monkeypatch.setattr(closing, "AT_ONCE", 4)

    async def life() -> None:
        gone, lines = ClosingQueue(), [Line() for _ in range(11)]
        assert all(gone.close(line) for line in lines[:10])
        counts = [0]
        for turn in range(4):
            await asyncio.sleep(0)
            counts.append(sum(line.is_closed for line in lines))
            if turn == 1:
                assert gone.close(lines[10])
        assert [after - before for before, after in pairwise(counts)] == [4, 4, 3, 0]

    asyncio.run(life())


def test_tls_is_left_to_the_loop() -> None:
    """It closes ended connections whatever it is asked."""

    async def life() -> None:
        line = Line(tls=object())
        assert not ClosingQueue().close(line)
        await asyncio.sleep(0)
        assert not line.is_closed

    asyncio.run(life())


@pytest.mark.parametrize("make", [lambda *parts: WebSocketStream(*parts, deflate=False), SSEStream])
def test_a_stream_whose_client_has_gone_is_closed(make: Any) -> None:
    """The socket is lost, the connection waits for another stream, and earlier bytes arrive."""

    async def scenario(stage: Stage) -> None:
        stream = await stage.opened(make(stage.streams, stage.transport, stage.connection))
        stream.write(b"last words")
        stage.client.shutdown(1)
        await stage.until(lambda: stage.connection.stream is None)
        assert stage.transport.is_closing()
        assert stage.streams.open == 0
        data = b""
        while more := await asyncio.get_running_loop().sock_recv(stage.client, 65_536):
            data += more
        assert data.endswith(b"last words")

    play(scenario)
