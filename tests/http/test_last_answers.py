"""The answers after which a connection closes: refusals, and answers in the middle of a body."""

import json

import pytest
from tests.http.stage import GET, POST, Stage, play, read_all
from tests.waiting import soon

from channelstream.core.policy import Policy
from channelstream.errors import TooLarge
from channelstream.http import waiting
from channelstream.http.request import Request
from channelstream.http.response import Response
from channelstream.http.shared import HttpSettings


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


def test_bytes_after_such_an_answer_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many are discarded, and no more are waited for."""
    monkeypatch.setattr(waiting, "LINGER_BYTES", 1000)
    monkeypatch.setattr(waiting, "LINGER_S", 3600.0)

    async def scene(stage: Stage) -> None:
        stage.handler = too_large
        client = await stage.dial()
        await client.send(POST % 8_000_000)
        await client.until(b"}")
        await client.send(b"x" * 1000)
        await soon(lambda: client.connection._waiting._linger_left == 0)
        assert not client.transport.is_closing()
        await client.send(b"x")
        await soon(client.transport.is_closing)

    play(scene)


def test_bytes_after_such_an_answer_are_waited_for_shortly(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few come."""
    monkeypatch.setattr(waiting, "LINGER_S", 0.0)

    async def scene(stage: Stage) -> None:
        stage.handler = too_large
        client = await stage.dial()
        await client.send(POST % 8_000_000)
        await client.until(b"}")
        await soon(client.transport.is_closing)

    play(scene)
