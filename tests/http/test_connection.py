"""One connection: what it reads, when it closes, and its last answers."""

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest
from tests.http.stage import GET, POST, Gate, Stage, play, read_all, turns
from tests.waiting import PATIENCE_S, soon

from channelstream import slices
from channelstream.core.policy import Policy
from channelstream.errors import TooLarge
from channelstream.http import waiting
from channelstream.http.request import Request
from channelstream.http.response import Response
from channelstream.http.shared import HttpSettings

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


def test_a_handler_without_an_answer_is_a_fault(caplog: pytest.LogCaptureFixture) -> None:
    """While its client waits for one."""

    async def forget(_: Request) -> None:
        pass

    async def scene(stage: Stage) -> None:
        stage.handler = forget
        client = await stage.dial()
        await client.send(GET)
        await client.until(b"HTTP/1.1 500 ")

    play(scene)
    assert [record.message for record in caplog.records] == [
        "an HTTP request handler returned without an answer"
    ]


def test_a_waiting_application_is_informed_of_the_end_of_its_client(caplog: pytest.LogCaptureFixture) -> None:
    """An application that waits for the client's end, as a long poll does, is informed of it, and need not answer."""

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
    assert not caplog.records


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
        client.connection._waiting.close_if_idle(client.connection)
        await client.until(b"ok")
        assert stage.asked == ["/a", "/a"]

    play(scene)


def test_a_client_that_sends_its_next_request_is_not_idle() -> None:
    """The head may take as long as that of the first request."""

    async def scene(stage: Stage) -> None:
        client = await stage.dial()
        await client.send(GET)
        await client.until(b"ok")
        await client.send(GET[:9])
        await turns()
        client.connection._waiting.close_if_idle(client.connection)
        await client.send(GET[9:])
        await client.until(b"ok")

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
        client.connection._waiting.close_if_idle(client.connection)
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


@pytest.mark.parametrize("parts", [(b"", GET), (GET[:9], GET[9:]), (POST % 3 + b"a", b"bc")])
def test_a_request_that_the_loop_has_not_read_in_time_is_answered(parts: tuple[bytes, bytes]) -> None:
    """A loop that is behind refuses no client that has sent everything."""

    async def scene(stage: Stage) -> None:
        stage.answer = read_all
        client = await stage.dial()
        await client.send(parts[0])
        await turns()
        client.socket.send(parts[1])  # The loop has no turn between this and the end of the time.
        client.connection._waiting.time_is_up(client.connection, "Too late.")
        assert (await client.until(b"ok")).startswith(b"HTTP/1.1 200 ")

    play(scene)


@pytest.mark.parametrize("more", [b"", GET[:-2]])
def test_a_client_that_has_not_sent_everything_is_refused(more: bytes) -> None:
    """Bytes that are not yet read delay the refusal until they are read, and no longer."""

    async def scene(stage: Stage) -> None:
        client = await stage.dial()
        if more:
            client.socket.send(more)
        client.connection._waiting.time_is_up(client.connection, "Too late.")
        assert (await client.rest()).startswith(b"HTTP/1.1 408 ")

    play(scene)


def test_a_connection_waits_for_one_thing_at_a_time() -> None:
    """The wait for a body takes the place of that for its head, and a whole request ends it."""

    async def scene(stage: Stage) -> None:
        stage.answer = read_all
        rows = stage.http_server.waits._rows
        client = await stage.dial()
        await client.send((POST % 3)[:-5])
        await turns()
        assert [(length_s, len(row.waiting)) for length_s, row in rows.items()] == [(10.0, 1)]
        await client.send((POST % 3)[-5:])
        await turns()
        assert [(length_s, len(row.waiting)) for length_s, row in rows.items()] == [(10.0, 0), (30.0, 1)]
        await client.send(b"abc")
        await client.until(b"ok")
        assert [len(row.waiting) for row in rows.values()] == [0, 0]

    play(scene, HttpSettings(head_timeout_s=10.0, body_timeout_s=30.0))


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 408, "request_timeout"),
        (GET[:-3], 408, "request_timeout"),
        (GET + GET[:-3], 408, "request_timeout"),
        (POST % 3, 408, "request_timeout"),
        (b"GET /" + b"x" * 40_000, 431, "head_too_long"),
        (GET[:-2] + b"a:\r\n" * 100 + b"\r\n", 431, "head_too_long"),
        (b"\x16\x03", 400, "bad_request"),
        (POST[:-4] % 3 + b"\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "bad_request"),
        (GET[:-2] + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501, "unsupported_transfer_coding"),
        (GET[:-2] + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", 400, "bad_request"),
    ],
)
def test_what_is_no_request_is_refused_in_the_shape_of_all_errors(
    data: bytes, status: int, code: str
) -> None:
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


async def said_ok(_request: Request) -> Response:
    return Response(b"ok")


@pytest.mark.parametrize("later", [False, True], ids=["with its head", "after its head"])
def test_a_malformed_body_is_reported(later: bool) -> None:
    """As a refused request, whenever it comes."""

    async def scene(stage: Stage) -> None:
        stage.answer = read_all
        client = await stage.dial()
        head, body = GET[:-2] + b"Transfer-Encoding: chunked\r\n\r\n", b"x\r\n"
        await client.send(head if later else head + body)
        if later:
            await soon(lambda: bool(stage.asked))
            await client.send(body)
        assert (await client.rest()).startswith(b"HTTP/1.1 400 ")
        assert stage.refused == ["bad_request"]

    play(scene)


def test_a_malformed_head_is_answered_without_the_origin_before_it() -> None:
    """A proxy may send requests of several pages over one connection."""

    async def scene(stage: Stage) -> None:
        stage.handler, stage.policy = said_ok, Policy(origins=("https://a.example",))
        stage.serve()
        client = await stage.dial()
        await client.send(GET[:-2] + b"Origin: https://a.example\r\n\r\n" + b"\x16\x03")
        first, _, second = (await client.rest()).partition(b"HTTP/1.1 400 ")
        allowed = b"access-control-allow-origin: https://a.example"
        assert (first.count(allowed), second.count(allowed)) == (1, 0)

    play(scene)


def test_too_many_connections_are_answered_503(caplog: pytest.LogCaptureFixture) -> None:
    """The one too many gets Retry-After, also a page of another origin; one line in the log is about all of them."""

    async def scene(stage: Stage) -> None:
        first, second, third = [await stage.dial() for _ in range(3)]
        await third.rest()
        answer = await second.rest()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in answer
        assert b"\r\naccess-control-expose-headers: Retry-After\r\n" in answer
        await first.send(GET)
        await first.until(b"ok")

    play(scene, HttpSettings(max_sockets=1))
    assert caplog.messages == [
        "1 sockets are open, as many as this process takes: further clients are refused"
    ]


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
    monkeypatch.setattr(waiting, bound, 0)

    async def scene(stage: Stage) -> None:
        stage.handler = too_large
        client = await stage.dial()
        await client.send(POST % 8_000_000 + b"x" * 1000)
        await client.until(b"}")
        with suppress(ConnectionError):  # The server may have closed the socket before all of it is sent.
            await client.send(b"x" * 1000)
        await soon(client.transport.is_closing)

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
