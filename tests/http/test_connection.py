"""One connection: what it reads, when it closes, and its last answers."""

import asyncio
import json
from typing import Any

import pytest
from tests.http.stage import GET, Client, Stage, ok, play, turns
from tests.waiting import soon

from channelstream.errors import TimedOut, TooLarge
from channelstream.http import connection
from channelstream.http.exchange import BODY_BYTES
from channelstream.http.parts import Parts
from channelstream.http.request import ClientGone, Request
from channelstream.http.response import Body, Response
from channelstream.http.router import Route
from channelstream.http.shared import HttpSettings
from channelstream.http.takeover import Detachable, TakeOver

POST = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"


class Gate:
    """An application that answers once it may."""

    def __init__(self) -> None:
        self.opens = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.opens.wait()
        await ok(scope, receive, send)


async def read_all(scope: Any, receive: Any, send: Any) -> None:
    """Answer once the body is complete; end without an answer if the client leaves."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        if not message["more_body"]:
            await ok(scope, receive, send)
            return


# -- the client's end of the line


def test_a_client_that_ends_its_side_is_answered() -> None:
    """All requests that came before the end are answered, then the connection closes."""

    async def scene(stage: Stage) -> None:
        gate = stage.answer = Gate()
        client = await stage.dial()
        await client.send(GET * 3)
        client.end()
        await soon(lambda: len(stage.asked) == 1)
        await turns()
        gate.opens.set()
        assert (await client.rest()).count(b"HTTP/1.1 200 OK") == 3

    play(scene)


def test_a_waiting_application_is_informed_of_the_end_of_its_client() -> None:
    """An application that waits for the client's end, as a long poll does, is informed of it."""

    async def scene(stage: Stage) -> None:
        seen: list[str] = []

        async def poll(_scope: Any, receive: Any, _send: Any) -> None:
            while (message := await receive())["type"] != "http.disconnect":
                pass
            seen.append(message["type"])

        stage.answer = poll
        client = await stage.dial()
        await client.send(GET)
        client.end()
        assert await client.rest() == b""
        assert seen == ["http.disconnect"]

    play(scene)


@pytest.mark.parametrize("data", [b"", GET[:-3], POST % 3 + b"ab"])
def test_a_partial_request_at_the_end_is_not_answered(data: bytes) -> None:
    """Nothing is answered to the beginning of a request."""

    async def scene(stage: Stage) -> None:
        stage.answer = read_all
        client = await stage.dial()
        await client.send(data)
        client.end()
        assert await client.rest() == b""

    play(scene)


# -- idle connections


def test_a_request_received_as_the_idle_time_ends_is_answered() -> None:
    """The client's request is answered, although the loop has not read it when the time is over."""

    async def scene(stage: Stage) -> None:
        client = await stage.dial()
        await client.send(GET)
        await client.until(b"ok")
        client.socket.send(GET)  # The loop has no turn between this and the end of the time.
        client.connection.close_if_idle()
        await client.until(b"ok")
        assert stage.asked == ["/a", "/a"]

    play(scene)


def test_an_idle_connection_closes() -> None:
    """After `keep_alive_s` without a byte."""

    async def scene(stage: Stage) -> None:
        client = await stage.dial()
        await client.send(GET)
        assert (await client.rest()).endswith(b"ok")

    play(scene, HttpSettings(keep_alive_s=0.01))


def test_a_client_that_still_reads_is_not_idle() -> None:
    """The time of an idle connection does not end the answer a client reads slowly."""

    async def scene(stage: Stage) -> None:
        size = 8_000_000

        async def large(_scope: Any, _receive: Any, send: Any) -> None:
            head = [(b"content-length", b"%d" % size)]
            await send({"type": "http.response.start", "status": 200, "headers": head})
            await send({"type": "http.response.body", "body": b"x" * size})

        stage.answer = large
        client = await stage.dial()
        await client.send(GET)
        await client.until(b"\r\n\r\n")
        client.connection.close_if_idle()
        await client.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert (await client.rest()).count(b"x") == 2 * size

    play(scene)


# -- bounds


def test_one_request_at_a_time() -> None:
    """While an answer is pending the next request waits, and the socket is not read."""

    async def scene(stage: Stage) -> None:
        gate = stage.answer = Gate()
        client = await stage.dial()
        await client.send(GET)
        await soon(lambda: bool(stage.asked))
        assert client.transport.is_reading()
        await client.send(GET * 100)
        await soon(lambda: not client.transport.is_reading())
        assert len(stage.asked) == 1
        gate.opens.set()
        for _ in range(101):
            await client.until(b"ok")
        assert client.transport.is_reading()

    play(scene)


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
        gate.set()
        await sending
        await client.until(b"ok")

    play(scene)


@pytest.mark.parametrize("parts", [(b"", GET), (GET[:9], GET[9:]), (POST % 3 + b"a", b"bc")])
def test_a_request_that_the_loop_has_not_read_in_time_is_answered(parts: tuple[bytes, bytes]) -> None:
    """A loop that is behind refuses no client that has sent everything."""

    async def scene(stage: Stage) -> None:
        stage.answer = read_all
        client = await stage.dial()
        await client.send(parts[0])
        await turns()
        client.socket.send(parts[1])  # The loop has no turn between this and the end of the time.
        client.connection.time_is_up(TimedOut("Too late."))
        assert (await client.until(b"ok")).startswith(b"HTTP/1.1 200 ")

    play(scene)


@pytest.mark.parametrize("more", [b"", GET[:-2]])
def test_a_client_that_has_not_sent_everything_is_refused(more: bytes) -> None:
    """Bytes that are not yet read delay the refusal until they are read, and no longer."""

    async def scene(stage: Stage) -> None:
        client = await stage.dial()
        if more:
            client.socket.send(more)
        client.connection.time_is_up(TimedOut("Too late."))
        assert (await client.rest()).startswith(b"HTTP/1.1 408 ")

    play(scene)


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 408, "request_timeout"),
        (GET[:-3], 408, "request_timeout"),
        (GET + GET[:-3], 408, "request_timeout"),
        (POST % 3, 408, "request_timeout"),
        (b"GET /" + b"x" * 40_000, 431, "head_too_long"),
        (b"\x16\x03", 400, "bad_request"),
        (POST[:-4] % 3 + b"\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "bad_request"),
        (GET[:-2] + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501, "unsupported_transfer_coding"),
        (GET[:-2] + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", 400, "bad_request"),
    ],
)
def test_refusals(data: bytes, status: int, code: str) -> None:
    """The front refuses in the shape of all errors, readable for pages of other origins, and closes."""

    async def scene(stage: Stage) -> None:
        stage.answer = read_all
        client = await stage.dial()
        await client.send(data)
        head, _, body = (await client.rest()).rpartition(b"\r\n\r\n")
        assert b"HTTP/1.1 %d " % status in head
        assert json.loads(body)["code"] == code
        for line in (
            b"connection: close",
            b"access-control-allow-origin: *",
            b"x-content-type-options: nosniff",
        ):
            assert head.count(b"\r\n" + line) == 1

    is_late = status == 408
    play(scene, HttpSettings(head_timeout_s=0.05, body_timeout_s=0.05) if is_late else HttpSettings())


def test_too_many_connections_are_answered_503() -> None:
    """The one too many gets Retry-After, also a page of another origin."""

    async def scene(stage: Stage) -> None:
        first, second = await stage.dial(), await stage.dial()
        answer = await second.rest()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in answer
        assert b"\r\naccess-control-expose-headers: Retry-After\r\n" in answer
        await first.send(GET)
        await first.until(b"ok")

    play(scene, HttpSettings(max_sockets=1))


# -- answers that close


async def too_large(_request: Request) -> Response:
    raise TooLarge("Send less.")


def test_an_answer_in_the_middle_of_a_body_is_read() -> None:
    """A client that sends the whole body before it reads still reads its 413: the connection is not reset."""

    async def scene(stage: Stage) -> None:
        stage.handler = too_large
        client = await stage.dial()
        await client.send(POST % 8_000_000 + b"x" * 1000)
        await soon(lambda: stage.asked != [])
        await client.send(b"x" * 7_999_000)
        client.end()
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert answer.count(b"connection: close") == 1

    play(scene)


@pytest.mark.parametrize("bound", ["LINGER_BYTES", "LINGER_S"])
def test_bytes_after_such_an_answer_are_bounded(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bytes and in time."""
    monkeypatch.setattr(connection, bound, 0)

    async def scene(stage: Stage) -> None:
        stage.handler = too_large
        client = await stage.dial()
        await client.send(POST % 8_000_000 + b"x" * 1000)
        await client.until(b"}")
        try:
            await client.send(b"x" * 1000)
        except ConnectionError:
            pass
        await soon(client.transport.is_closing)

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


# -- stopping


@pytest.mark.parametrize("data", [b"", GET[:-3], GET + GET[:-3], POST % 3 + b"ab", GET])
def test_stopping_closes_connections_without_a_request(data: bytes) -> None:
    """Idle connections and half-sent requests close at once; a half-sent request has no answer."""

    async def scene(stage: Stage) -> None:
        stage.answer = read_all
        client = await stage.dial()
        await client.send(data)
        await turns()
        before = data.count(GET)
        await asyncio.wait_for(stage.http_server.close(), 5)
        assert (await client.rest()).count(b"HTTP/1.1") == before

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
        await asyncio.wait_for(stage.http_server.close(), 5)
        assert await client.rest() == b""

    play(scene)
    assert caplog.records == []


# -- what the application does


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


@pytest.mark.parametrize("body", [b"ok", Parts([b"o", b"k"])], ids=["whole", "in parts"])
def test_no_value_of_a_header_begins_another_line(body: Body, caplog: pytest.LogCaptureFixture) -> None:
    """A handler may have it from a request: the answer would have headers, or be followed by an answer, of a stranger."""

    async def scene(stage: Stage) -> None:
        async def echo(_request: Request) -> Response:
            return Response(body, headers=((b"x-name", b"a\r\nset-cookie: b"),))

        stage.handler = echo
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


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_an_answer_in_one_write_equals_the_long_way(method: bytes) -> None:
    """A whole body is sent as the same bytes as one in parts."""

    async def scene(stage: Stage) -> None:
        said: list[list[bytes]] = []

        async def whole(_request: Request) -> Response:
            return Response(b"ok")

        async def in_parts(_request: Request) -> Response:
            return Response(Parts([b"o", b"k"]))

        for stage.handler in (whole, in_parts):
            client = await stage.dial()
            await client.send(GET.replace(b"GET", method))
            client.end()
            said.append(
                [line for line in (await client.rest()).split(b"\r\n") if not line.startswith(b"date")]
            )
        assert said[0] == said[1]
        assert said[0][-1] == (b"ok" if method == b"GET" else b"")

    play(scene)


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
        await soon(lambda: client.connection.is_full)
        await turns()
        assert taken == []
        left = MUCH
        while left > 0:
            left -= len(await client._more())
        await soon(lambda: len(taken) == 1)
        assert not client.connection.is_full

    play(scene)


def test_stopping_drops_requests_behind_an_unread_answer() -> None:
    """The requests behind it are not served; the answer is sent."""

    async def scene(stage: Stage) -> None:
        stage.answer = more_than_the_kernel_takes
        client = await stage.dial()
        await client.send(GET + GET)
        await soon(lambda: client.connection.is_full)
        client.connection.stop()
        assert client.transport.is_closing()
        assert len(stage.asked) == 1

    play(scene)


# -- chunks of one byte

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


# -- one answer for one request


def test_a_late_end_of_a_body_gets_no_second_answer() -> None:
    """The connection closes without a second answer, which would be taken for that of the next request."""

    async def scene(stage: Stage) -> None:
        client = await stage.dial()
        await client.send(POST % 3 + b"a")
        answer = await client.rest()
        assert answer.count(b"HTTP/1.1 ") == 1
        assert answer.endswith(b"ok")

    play(scene, HttpSettings(body_timeout_s=0.05))


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


def test_the_buffer_of_a_body_is_bounded() -> None:
    """The bytes that wait for an application are bounded."""
    assert BODY_BYTES <= 65_536


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
        await asyncio.wait_for(done.wait(), 5)

    play(scene)
