"""What a connection keeps of a head: a request with the same one is read as the first, and gets nothing of the others."""

import asyncio
import tracemalloc
from collections.abc import Awaitable

import pytest
from tests.http.stage import GET, POST, Client, Stage, play, turns
from tests.waiting import soon

from channelstream.errors import Unavailable
from channelstream.http.request import Request
from channelstream.http.response import Response
from channelstream.http.router import Route


@pytest.mark.parametrize("at_once", [True, False])
def test_requests_with_the_same_head_have_bodies_of_their_own(at_once: bool) -> None:
    """Each is answered after the one before, whether it comes in one piece or with the next one."""

    async def scene(stage: Stage) -> None:
        bodies: list[bytes] = []

        def echo(request: Request) -> Response:
            bodies.append(request.whole(10) or b"")
            return Response(bodies[-1])

        async def echo_later(request: Request) -> Response:
            bodies.append(await request.read(10))
            return Response(bodies[-1])

        stage.handler = echo if at_once else echo_later
        client = await stage.dial()
        for sent in (b"ab", b"cd", b"ef"):
            await client.send(POST % 2 + sent)
            assert (await client.until(sent)).count(b"HTTP/1.1 200 OK") == 1
        await client.send(POST % 2 + b"gh" + POST % 2 + b"ij")
        assert (await client.until(b"ij")).count(b"HTTP/1.1 200 OK") == 2
        await client.send(POST % 3 + b"klm")
        await client.until(b"klm")
        assert bodies == [b"ab", b"cd", b"ef", b"gh", b"ij", b"klm"]

    play(scene)


async def kept_bytes(client: Client, data: bytes) -> int:
    """Return how much memory remains in use after an answer `done` to what is sent."""
    tracemalloc.start()
    try:
        await client.send(data)
        await client.until(b"done")
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_an_idle_connection_keeps_nothing_of_a_long_head() -> None:
    """It is longer once it is read, and a client may be idle for a minute."""

    async def scene(stage: Stage) -> None:
        stage.handler = lambda _: Response(b"done")
        client = await stage.dial()
        head = GET[:-2] + b"".join(b"%x:%340x\r\n" % (number, number) for number in range(90)) + b"\r\n"
        assert await kept_bytes(client, head) < 20_000

    play(scene)


def test_a_request_whose_body_is_awaited_keeps_no_lists_of_its_head() -> None:
    """Thousands of short items would be small in a head, and large in memory, while a client may take its time."""

    async def scene(stage: Stage) -> None:
        stage.handler = lambda _: Response(b"done")
        client = await stage.dial()
        items = b",".join(b"%04x" % number for number in range(5_000))
        lists = b"Connection: upgrade, %b\r\nUpgrade: %b\r\n\r\n" % (items[:5_000], items)
        assert await kept_bytes(client, POST[:-2] % 3 + lists) < 120_000

    play(scene)


def test_a_request_gets_nothing_of_the_one_before() -> None:
    """One that was answered at once lends its objects to the next one with its head; one that waits does not."""

    async def scene(stage: Stage) -> None:
        seen: list[tuple[str, bytes | None, bytes | None]] = []
        requests: list[Request] = []
        waiting: list[asyncio.Event] = []

        def handle(request: Request) -> Response | Awaitable[Response]:
            if waiting:
                return wait(request)
            note(request, request.whole(10))
            return Response(b"done")

        async def wait(request: Request) -> Response:
            note(request, await request.read(10))
            await waiting[0].wait()
            return Response(b"waited")

        def note(request: Request, body: bytes | None) -> None:
            seen.append((request.app_id, request.header(b"content-length"), body))
            requests.append(request)
            request.app_id = "shop"

        stage.handler = handle
        client = await stage.dial()
        for size in (1, 2, 1):
            await client.send(POST % size + b"x" * size)
            await client.until(b"done")
        waiting.append(asyncio.Event())
        await client.send(POST % 2 + b"yy")
        await soon(lambda: len(seen) == 4)
        await client.send(POST % 2 + b"zz")
        waiting.pop().set()
        waited = await client.until(b"done")
        assert waited.count(b"waited") == 1
        assert seen == [
            ("", b"1", b"x"), ("", b"2", b"xx"), ("", b"1", b"x"), ("", b"2", b"yy"), ("", b"2", b"zz")
        ]  # fmt: skip
        assert requests[3] is requests[2] is requests[1]
        assert requests[4] is not requests[3]

    play(scene)


def test_a_request_gets_nothing_of_an_older_one_with_another_head() -> None:
    """Its head is compared with that of the request before it, whose objects alone it may use."""

    async def scene(stage: Stage) -> None:
        stage.handler = lambda request: Response(request.method.encode())
        client = await stage.dial()
        for method in (b"GET", b"PUT", b"PUT", b"GET", b"GET"):
            await client.send(GET.replace(b"GET /a", method + b" /" + method))
            await client.until(b"\r\n\r\n" + method)
        assert stage.asked == ["/GET", "/PUT", "/PUT", "/GET", "/GET"]

    play(scene)


def test_a_request_without_a_body_is_read_after_one_that_was_taken_whole() -> None:
    """The end of its body is reported, which is all that there is of it."""

    async def scene(stage: Stage) -> None:
        async def read(request: Request) -> Response:
            return Response(b"read " + await request.read(10))

        def handle(request: Request) -> Response | Awaitable[Response]:
            return read(request) if len(stage.asked) > 2 else Response(b"%r" % request.whole(10))

        stage.handler = handle
        client = await stage.dial()
        for answer in (b"b''", b"b''", b"read "):
            await client.send(GET)
            await client.until(answer)

    play(scene)


def test_a_request_with_the_same_head_waits_while_the_server_is_held() -> None:
    """It is not begun before `let_go`, as no other request is."""

    async def scene(stage: Stage) -> None:
        client = await stage.dial()
        await client.send(GET)
        await client.until(b"ok")
        stage.http_server.is_held = True
        client.connection.data_received(GET)
        await turns()
        assert stage.asked == ["/a"]
        await stage.http_server.let_go()
        await client.until(b"ok")
        assert stage.asked == ["/a", "/a"]

    play(scene)


def test_a_request_with_the_same_head_can_be_refused_before_its_handler() -> None:
    """What takes sockets over may refuse the second one, and the connection closes."""

    async def scene(stage: Stage) -> None:
        def full(_head: object) -> None:
            if stage.asked:
                raise Unavailable("full")

        stage.serve(Route("/a", {"GET": stage._handle}, opens=full))
        client = await stage.dial()
        await client.send(GET)
        await client.until(b"ok")
        await client.send(GET)
        assert b"HTTP/1.1 503" in await client.rest()
        assert stage.refused == ["unavailable"]

    play(scene)
