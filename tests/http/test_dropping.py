"""The end of a server that waits no longer: every socket is dropped, and nothing of them runs on."""

import asyncio

from tests.http.stage import GET, SOCKET_BYTES, Stage, play, turns
from tests.waiting import soon

from channelstream.http.request import Request
from channelstream.http.response import Response


def test_dropping_waits_until_handlers_have_ended() -> None:
    """What they use is closed after that."""
    ended: list[str] = []

    async def scene(stage: Stage) -> None:
        async def handle(request: Request) -> Response:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                ended.append(request.path)
            return Response(b"")

        stage.handler = handle
        client = await stage.dial()
        await client.send(GET)
        await soon(lambda: bool(stage.asked))
        await stage.http_server.abort()
        assert ended == stage.asked

    play(scene)


def test_dropping_closes_answers_that_nobody_reads() -> None:
    """Their handlers have ended long ago."""

    async def scene(stage: Stage) -> None:
        stage.handler = lambda _: Response(b"x" * 50 * SOCKET_BYTES)
        client = await stage.dial()
        await client.send(GET)
        await soon(lambda: client.is_full)
        await stage.http_server.abort()
        await turns()
        assert not stage.http_server.sockets

    play(scene)
