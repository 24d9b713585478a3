"""A fault of the server while a stream opens: it is logged, and the client is answered or its socket closed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.token_client import SECRET, token
from tests.transports.in_process import UPGRADE, Stage, play
from tests.waiting import PATIENCE_S

from channelstream.errors import Internal, Unavailable
from channelstream.wire.frames import close_frame, pong_frame

PING = b"\x89\x86\0\0\0\0still?"
"""Masked with zeros."""
SSE = b"GET /sse?conn_id=c HTTP/1.1\r\nHost: x\r\n\r\n"


def fail(*_arguments: Any) -> Any:
    raise LookupError("a fault")


async def fail_later(*_arguments: Any) -> Any:
    await asyncio.sleep(0)
    fail()


def in_look_up(node: Any) -> None:
    node.connection = fail


def in_fetch(node: Any) -> None:
    node.may_be_elsewhere = lambda _conn_id: True
    node.take_over = fail_later


def in_attachment(node: Any) -> None:
    node.local.attached = fail


def in_fetched_attachment(node: Any) -> None:
    connection = node.connection("c")

    async def take_over(_conn_id: str) -> Any:
        return connection

    node.may_be_elsewhere = lambda _conn_id: True
    node.take_over, node.local.attached = take_over, fail


async def answer_to(stage: Stage, request: bytes) -> bytes:
    """Return all that the client of a request receives until its socket is closed."""
    stage.speak_http()
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(stage.client, request)
    received = b""
    async with asyncio.timeout(PATIENCE_S):
        while data := await loop.sock_recv(stage.client, 65_536):
            received += data
    return received


@pytest.mark.replaces_compiled
@pytest.mark.parametrize("error", [Unavailable("Not now."), LookupError("a fault")])
def test_a_client_that_leaves_while_its_websocket_is_refused_is_written_nothing(error: Exception) -> None:
    """The loop refuses writes to a lost socket."""
    faults: list[Any] = []

    async def scenario(stage: Stage) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        asked, has_gone = asyncio.Event(), asyncio.Event()

        async def take_over(_conn_id: str) -> Any:
            asked.set()
            await has_gone.wait()
            raise error

        stage.streams.node.may_be_elsewhere = lambda _conn_id: True  # type: ignore[method-assign]
        stage.streams.node.take_over = take_over  # type: ignore[method-assign]
        stage.speak_http()
        await asyncio.get_running_loop().sock_sendall(stage.client, UPGRADE % b"c")
        await asked.wait()
        stage.transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        has_gone.set()
        await stage.until(lambda: not stage.streams.is_opening)

    play(scenario)
    assert not faults


def in_slow_fetch(node: Any, wait: Callable[[], Awaitable[None]]) -> None:
    connection = node.connection("c")

    async def take_over(_conn_id: str) -> Any:
        await wait()
        node.connection = lambda _conn_id: connection
        return connection

    node.may_be_elsewhere, node.take_over = lambda _conn_id: True, take_over
    node.connection = lambda _conn_id: None


def in_slow_connect(node: Any, wait: Callable[[], Awaitable[None]]) -> None:
    connect = node.connect

    async def slow_connect(*args: Any, **more: Any) -> Any:
        await wait()
        return await connect(*args, **more)

    node.connect = slow_connect


@pytest.mark.replaces_compiled
@pytest.mark.parametrize(
    ("slow", "request_"),
    [(in_slow_fetch, UPGRADE % b"c"), (in_slow_connect, UPGRADE.replace(b"conn_id=%b", b"token=%b"))],
    ids=["by its id", "by a token"],
)
def test_frames_that_come_while_a_websocket_is_opened_are_read_afterwards(
    slow: Callable[[Any, Callable[[], Awaitable[None]]], None], request_: bytes
) -> None:
    """A client sends them as soon as it has the answer to its handshake."""

    async def scenario(stage: Stage) -> None:
        asked, may_end, loop = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop()

        async def wait() -> None:
            asked.set()
            await may_end.wait()

        slow(stage.streams.node, wait)
        stage.speak_http()
        await loop.sock_sendall(stage.client, request_.replace(b"%b", token().encode()))
        async with asyncio.timeout(PATIENCE_S):
            await asked.wait()
        await loop.sock_sendall(stage.client, PING)
        for _ in range(20):  # The loop would read it.
            await asyncio.sleep(0)
        may_end.set()
        received = b""
        async with asyncio.timeout(PATIENCE_S):
            while pong_frame(b"still?") not in received:
                received += await loop.sock_recv(stage.client, 65_536)

    play(scenario, secret=SECRET, token_max_age_s=1000)


@pytest.mark.replaces_compiled
@pytest.mark.parametrize("fault", [in_look_up, in_fetch, in_attachment, in_fetched_attachment])
def test_a_websocket_that_cannot_be_opened_is_closed(
    fault: Callable[[Any], None], caplog: pytest.LogCaptureFixture
) -> None:
    """After its handshake, with the code by which the client keeps its connection and comes back."""

    async def scenario(stage: Stage) -> None:
        fault(stage.streams.node)
        head, _, frames = (await answer_to(stage, UPGRADE % b"c")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert frames.endswith(close_frame(Internal.refusal_code, Internal().message))
        assert stage.streams.open == stage.streams.sockets == 0

    play(scenario)
    assert [record.getMessage() for record in caplog.records] == ["a WebSocket could not be opened"]


@pytest.mark.replaces_compiled
@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        (in_look_up, b"HTTP/1.1 500 "),
        (in_fetch, b"HTTP/1.1 500 "),
        (in_attachment, b"HTTP/1.1 200 "),
        (in_fetched_attachment, b"HTTP/1.1 200 "),
    ],
)
def test_an_event_stream_that_cannot_be_opened_is_answered_or_ends(
    fault: Callable[[Any], None], answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """500 as long as its socket is in HTTP; later the socket closes."""

    async def scenario(stage: Stage) -> None:
        fault(stage.streams.node)
        received = b""
        try:
            received = await answer_to(stage, SSE)
        except ConnectionResetError:
            assert answer == b"HTTP/1.1 200 "
        assert received.startswith(answer) or (answer == b"HTTP/1.1 200 " and not received)
        await stage.until(lambda: stage.streams.open == 0)

    play(scenario)
    assert len(caplog.records) == 1
