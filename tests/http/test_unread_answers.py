"""The next request of a connection waits until there is room for its answer."""

from typing import Any

from tests.http.stage import GET, Stage, play, turns
from tests.waiting import soon

from channelstream.http.request import Request
from channelstream.http.response import Response
from channelstream.http.router import Route
from channelstream.http.takeover import Detachable, TakeOver


def test_unread_answers_pause_the_next_request() -> None:
    """The next request is not read before there is room for its answer."""

    async def scene(stage: Stage) -> None:

        async def large(_request: Request) -> Response:
            return Response(b"y" * 4_000_000)

        stage.handler = large
        client = await stage.dial()
        await client.send(GET * 3 + GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        await soon(lambda: len(stage.asked) == 1)
        await turns()
        assert len(stage.asked) == 1
        assert client.transport.get_write_buffer_size() < 4_500_000
        assert (await client.rest()).count(b"y" * 1000) == 16_000

    play(scene)


MUCH = 16_000_000


async def more_than_the_kernel_takes(_scope: Any, _receive: Any, send: Any) -> None:
    """Far more than `tcp_wmem` allows a socket to buffer, so that the transport is full in any case."""
    size = MUCH
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
    await send({"type": "http.response.body", "body": b"x" * size})


def test_a_socket_is_taken_over_only_when_there_is_room() -> None:
    """Its new protocol would not be informed that the transport is full, and would fill it without bound."""
    taken: list[Detachable] = []

    async def scene(stage: Stage) -> None:
        stage.answer = more_than_the_kernel_takes
        stage.serve(Route("/stream", {}, opens=lambda _head: TakeOver(taken.append)))
        client = await stage.dial()
        await client.send(GET + GET.replace(b"/a", b"/stream"))
        await soon(lambda: client.is_full)
        await turns()
        assert taken == []
        left = MUCH
        while left > 0:
            left -= len(await client._more())
        await soon(lambda: len(taken) == 1)
        assert not client.is_full

    play(scene)


def test_stopping_drops_requests_behind_an_unread_answer() -> None:
    """The requests behind it are not served; the answer is sent."""

    async def scene(stage: Stage) -> None:
        stage.answer = more_than_the_kernel_takes
        client = await stage.dial()
        await client.send(GET + GET)
        await soon(lambda: client.is_full)
        client.connection.stop()
        assert client.transport.is_closing()
        assert len(stage.asked) == 1

    play(scene)
