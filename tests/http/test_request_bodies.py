"""Bodies of requests: how they wait for their handlers, and what becomes of those that nobody reads."""

import asyncio
from typing import Any

import pytest
from tests.http.stage import GET, POST, Stage, play, read_all
from tests.waiting import soon

from channelstream.http.exchange import BODY_BYTES
from channelstream.http.request import Request
from channelstream.http.response import Response

READ_BYTES = 262_144
"""The most that uvloop reads at once."""


def test_a_body_waits_for_the_application() -> None:
    """An unread body is buffered up to a bound; it continues when it is read."""

    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()

        async def late(scope: Any, receive: Any, send: Any) -> None:
            await gate.wait()
            await read_all(scope, receive, send)

        stage.answer = late
        client = await stage.dial()
        sending = asyncio.ensure_future(client.send(POST % 20_000_000 + b"x" * 20_000_000))
        await soon(lambda: not client.transport.is_reading())
        assert len(stage.asked) == 1
        assert not sending.done()
        assert client.connection._exchange is not None
        assert BODY_BYTES < len(client.connection._exchange._body) <= BODY_BYTES + READ_BYTES
        gate.set()
        await sending
        await client.until(b"ok")

    play(scene)


CHUNKED = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_tiny_chunks_hold_up_nobody() -> None:
    """Other tasks run while a body of them is read, and it arrives whole, as the next request does."""

    async def scene(stage: Stage) -> None:
        stage.answer = read_all
        bystander, client = await stage.dial(), await stage.dial()
        await client.send(CHUNKED + b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n" + GET)
        await soon(lambda: stage.asked != [])
        await bystander.send(GET)
        await bystander.until(b"ok")
        assert len(stage.asked) == 2  # Not yet the request behind the body.
        await client.until(b"ok")
        await client.until(b"ok")

    play(scene)


def test_the_rest_of_a_chunked_body_is_not_read() -> None:
    """An answer in the middle of one closes the connection, however cheap the rest is to send."""

    async def scene(stage: Stage) -> None:
        client = await stage.dial()
        await client.send(CHUNKED + b"1\r\nx\r\n" * 20_000)
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nconnection: close\r\n" in answer

    play(scene)


def test_a_connection_closes_after_a_refusal_without_100_continue() -> None:
    """A client refused without `100 Continue` may send the body or not: the connection closes."""

    async def scene(stage: Stage) -> None:
        client = await stage.dial()
        await client.send(POST.replace(b"Host", b"Expect: 100-continue\r\nHost") % 3)
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nconnection: close\r\n" in answer

    play(scene)


def test_continue_is_sent_when_the_application_reads() -> None:
    """`100 Continue` is sent when the application reads, and the connection stays."""

    async def scene(stage: Stage) -> None:
        stage.answer = read_all
        client = await stage.dial()
        await client.send(POST.replace(b"Host", b"Expect: 100-continue\r\nHost") % 3)
        assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"abc" + GET)
        for _ in range(2):
            await client.until(b"ok")

    play(scene)


def test_continue_never_stands_in_an_answer() -> None:
    """An application that reads when its answer has begun gets no `100 Continue` for its client."""

    async def scene(stage: Stage) -> None:
        async def answer(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await asyncio.gather(receive(), send({"type": "http.response.body", "body": b"ok"}))

        stage.answer = answer
        client = await stage.dial()
        await client.send(POST.replace(b"Host", b"Expect: 100-continue\r\nHost") % 3)
        assert b"100 Continue" not in await client.rest()

    play(scene)


EXPECTING = POST.replace(b"Host", b"Expect: 100-continue\r\nHost")


@pytest.mark.parametrize(
    ("sent", "is_there"),
    [
        ([POST % 3 + b"abc"], True),
        ([POST % 3, b"abc"], False),
        ([CHUNKED + b"3\r\nabc\r\n0\r\n\r\n"], True),
        ([EXPECTING % 3 + b"abc"], False),
    ],
)
def test_a_body_that_came_with_its_head_need_not_be_waited_for(sent: list[bytes], is_there: bool) -> None:
    """Any other is read as it comes; a client that waits for `100 Continue` is sent it in any case."""

    async def scene(stage: Stage) -> None:
        found: list[bytes | None] = []

        async def handle(request: Request) -> Response:
            found.append(request.whole(3))
            return Response(await request.read(3) if found[0] is None else b"abc")

        stage.handler = handle
        client = await stage.dial()
        for part in sent:
            await client.send(part)
            await soon(lambda: bool(found))
        answer = await client.until(b"abc")
        assert found == [b"abc" if is_there else None]
        assert answer.count(b"100 Continue") == (sent[0] == EXPECTING % 3 + b"abc")

    play(scene)


@pytest.mark.parametrize("sent", [POST % 4 + b"abcd", CHUNKED + b"4\r\nabcd\r\n0\r\n\r\n"])
def test_a_body_that_came_with_its_head_may_be_too_long(sent: bytes) -> None:
    async def scene(stage: Stage) -> None:
        async def handle(request: Request) -> Response:
            return Response(request.whole(3) or b"")

        stage.handler = handle
        client = await stage.dial()
        await client.send(sent)
        assert b"HTTP/1.1 413" in await client.until(b"}")

    play(scene)
