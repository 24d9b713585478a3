"""One request and its answer: the bytes that are written, and what may fail on either side."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from tests.http.stage import GET, POST, Client, Stage, ok, play, turns
from tests.waiting import PATIENCE_S, soon

from channelstream.http.parts import Parts
from channelstream.http.request import ClientGone, Request
from channelstream.http.response import Body, Response

# -- the answer


@pytest.mark.parametrize("begins", [False, True])
def test_a_failing_application_is_answered_500(begins: bool, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and answered 500 unless an answer has begun; that one only ends."""

    async def scene(stage: Stage) -> None:

        async def fail(_scope: Any, _receive: Any, send: Any) -> None:
            if begins:
                head = [(b"content-length", b"9")]
                await send({"type": "http.response.start", "status": 200, "headers": head})
            raise LookupError

        stage.answer = fail
        client = await stage.dial()
        await client.send(GET)
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 200 " if begins else b"HTTP/1.1 500 ")
        assert answer.count(b"HTTP/1.1") == 1

    play(scene)
    assert [record.getMessage() for record in caplog.records] == [
        "an HTTP request failed with an unexpected error"
    ]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_failing_handler_is_answered_500(at_once: bool, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its traceback, and the connection serves the next request."""

    async def scene(stage: Stage) -> None:
        def fail(_request: Request) -> Response:
            if not stage.refused:
                raise LookupError
            return Response(b"ok")

        async def fail_later(request: Request) -> Response:
            return fail(request)

        stage.handler = fail if at_once else fail_later
        client = await stage.dial()
        await client.send(GET)
        assert b"HTTP/1.1 500 " in await client.until(b'"internal"}')
        await client.send(GET)
        await client.until(b"ok")
        assert stage.refused == ["internal"]

    play(scene)
    [record] = caplog.records
    assert record.getMessage() == "a request failed: GET /a"
    assert record.exc_info is not None
    assert record.exc_info[0] is LookupError


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("body", [b"ok", Parts([b"o", b"k"])], ids=["whole", "in parts"])
def test_no_value_of_a_header_begins_another_line(
    body: Body, at_once: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler may have it from a request: the answer would have headers, or be followed by an answer, of a stranger."""

    async def scene(stage: Stage) -> None:
        def echo(_request: Request) -> Response:
            return Response(body, headers=((b"x-name", b"a\r\nset-cookie: b"),))

        async def echo_later(request: Request) -> Response:
            return echo(request)

        stage.handler = echo if at_once else echo_later
        client = await stage.dial()
        await client.send(GET)
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert b"set-cookie" not in answer

    play(scene)
    assert [record.getMessage() for record in caplog.records] == [
        "an HTTP request failed with an unexpected error"
    ]


async def silent(_scope: Any, _receive: Any, _send: Any) -> None:
    pass


async def split_header(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"a\r\nb: c")]})


async def too_long(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.mark.parametrize(("app", "status"), [(silent, 500), (split_header, 500), (too_long, 200)])
def test_a_malformed_answer_is_not_sent(app: Any, status: int) -> None:
    """Nothing is sent that a client could take for another answer."""

    async def scene(stage: Stage) -> None:
        stage.answer = app
        client = await stage.dial()
        await client.send(GET)
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"\r\nb: c" not in answer
        assert status == 500 or answer.endswith(b"\r\n\r\n")

    play(scene)


def parts(*bodies: bytes) -> Any:
    async def stream(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for body in bodies:
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body"})

    return stream


@pytest.mark.parametrize(
    ("request_head", "end"),
    [
        (GET, b"\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"),
        (b"GET / HTTP/1.0\r\n\r\n", b"\r\nconnection: close\r\n\r\nabc"),
        (GET.replace(b"GET", b"HEAD"), b"\r\n\r\n"),
    ],
    ids=["1.1", "1.0", "HEAD"],
)
def test_answers_of_unknown_length_are_chunked(request_head: bytes, end: bytes) -> None:
    """They come in chunks, of HTTP/1.0 up to the end of the connection, and not at all of HEAD."""

    async def scene(stage: Stage) -> None:
        stage.answer = parts(b"a", b"", b"bc")
        client = await stage.dial()
        await client.send(request_head)
        client.end()
        assert (await client.rest()).endswith(end)

    play(scene)


def test_head_of_an_answer_without_an_end() -> None:
    """The application ends its stream, and the next request of the connection is answered."""

    async def scene(stage: Stage) -> None:
        ended = asyncio.Event()

        async def endless(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"event", "more_body": True})
            if scope["method"] == "HEAD":
                while (await receive())["type"] != "http.disconnect":
                    pass
                ended.set()
            await send({"type": "http.response.body"})

        stage.answer = endless
        client = await stage.dial()
        await client.send(GET.replace(b"GET", b"HEAD") + GET)
        await ended.wait()
        client.end()
        answers = await client.rest()
        assert answers.count(b"HTTP/1.1 200 ") == 2
        assert answers.count(b"event") == 1

    play(scene)


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_an_answer_in_one_write_equals_the_long_way(method: bytes) -> None:
    """A whole body is sent as the same bytes as one in parts."""

    async def scene(stage: Stage) -> None:
        said: list[list[bytes]] = []

        async def later(request: Request) -> Response:
            return at_once(request)

        async def in_parts_later(request: Request) -> Response:
            return in_parts(request)

        def at_once(_request: Request) -> Response:
            return Response(b"ok")

        def in_parts(_request: Request) -> Response:
            return Response(Parts([b"o", b"k"]))

        for stage.handler in (at_once, in_parts, later, in_parts_later):
            client = await stage.dial()
            await client.send(GET.replace(b"GET", method))
            client.end()
            said.append(
                [line for line in (await client.rest()).split(b"\r\n") if not line.startswith(b"date")]
            )
        assert said == said[:1] * 4
        assert said[0][-1] == (b"ok" if method == b"GET" else b"")

    play(scene)


def test_a_stream_is_closed_when_its_client_has_gone() -> None:
    """In the task of its request, before the answer ends: what it holds is released then, not by the garbage collector."""
    steps: list[str] = []

    async def scene(stage: Stage) -> None:
        gone = asyncio.Event()

        async def endless() -> AsyncGenerator[bytes, None]:
            try:
                yield b"first"
                await gone.wait()
                while True:
                    yield b"more"
            finally:
                await asyncio.sleep(0)
                steps.append("closed")

        stream = endless()  # The garbage collector cannot close it in the meantime.

        async def answer(_request: Request) -> Response:
            return Response(stream)

        stage.handler = answer
        client = await stage.dial()
        await client.send(GET)
        await client.until(b"first")
        client.transport.abort()
        await soon(lambda: client.connection._exchange is None or client.connection._exchange.is_abandoned)
        gone.set()
        await soon(lambda: steps == ["closed"])

    play(scene)


# -- one answer for one request


def test_a_late_end_of_a_body_gets_no_second_answer() -> None:
    """The connection closes without a second answer, which would be taken for that of the next request."""

    async def scene(stage: Stage) -> None:
        client = await stage.dial()
        await client.send(POST % 3 + b"a")
        await client.until(b"ok")
        client.connection._waiting.time_is_up(client.connection, "Too late.")
        assert await client.rest() == b""

    play(scene)


def test_a_failure_behind_an_answer_is_not_the_next_requests() -> None:
    """An exception of an application after its answer does not affect the next request."""

    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()

        async def answer(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/a":
                await ok(scope, receive, send)
                await soon(lambda: len(stage.asked) == 2)
                gate.set()
                raise LookupError
            await gate.wait()
            await turns()
            await ok(scope, receive, send)

        stage.answer = answer
        client = await stage.dial()
        await client.send(GET + GET.replace(b"/a", b"/b"))
        client.end()
        answer_bytes = await client.rest()
        assert answer_bytes.count(b"HTTP/1.1 200 ") == answer_bytes.count(b"HTTP/1.1 ") == 2

    play(scene)


# -- a client that leaves


def test_a_client_that_only_the_handler_finds_gone_is_not_answered(caplog: pytest.LogCaptureFixture) -> None:
    """The loop has not read its end, as bytes of a next request stand before it: nothing is sent, and no error logged."""

    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()

        async def gone(_request: Request) -> Response:
            await gate.wait()
            raise ClientGone

        stage.handler = gone
        client = await stage.dial()
        await client.send(GET + GET)
        client.end()
        await soon(lambda: bool(stage.asked))
        await turns()
        gate.set()
        assert await client.rest() == b""
        assert len(stage.asked) == 1

    play(scene)
    assert caplog.records == []


def test_a_lost_client_ends_the_exchange() -> None:
    """The application is informed, and its further output is dropped."""

    async def scene(stage: Stage) -> None:
        done = asyncio.Event()

        async def poll(scope: Any, receive: Any, send: Any) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            await ok(scope, receive, send)
            done.set()

        stage.answer = poll
        client: Client = await stage.dial()
        await client.send(GET)
        await soon(lambda: bool(stage.asked))
        client.transport.abort()
        await asyncio.wait_for(done.wait(), PATIENCE_S)

    play(scene)
