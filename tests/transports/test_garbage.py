"""Ended streams leave nothing to the garbage collector, which runs rarely (`lifecycle.GC_THRESHOLDS`)."""

import asyncio
import os

import pytest
from tests.census import left_by, passing_client
from tests.transports.in_process import Stage, play

from channelstream.http.shared import HttpServer

pytestmark = pytest.mark.slow

ROUNDS = int(os.environ.get("GARBAGE_ROUNDS", "20"))
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
CLOSE = b"\x88\x80\x00\x00\x00\x00"
ABUSE = b"\x83\x80\x00\x00\x00\x00"
VISITS = {
    "ws dropped": ("/ws", UPGRADE, b""),
    "ws closed": ("/ws", UPGRADE, CLOSE),
    "ws failed": ("/ws", UPGRADE, ABUSE),
    "sse": ("/sse", "", b""),
    "poll": ("/listen", "", b""),
}
"""Path, headers and last words of a client."""


async def visit(stage: Stage, http_server: HttpServer, path: str, headers: str, last_words: bytes) -> None:
    """Open a stream, read its first item, end it, and wait for its end."""
    loop = asyncio.get_running_loop()
    async with passing_client(http_server, lambda: not stage.streams.open) as (far, _):
        request = f"GET {path}?conn_id=c&since= HTTP/1.1\r\nHost: test\r\n{headers}\r\n"
        await loop.sock_sendall(far, request.encode())
        answer = b""
        while b"resumed" not in answer:
            answer += await loop.sock_recv(far, 65_536)
        await loop.sock_sendall(far, last_words)


@pytest.mark.parametrize("kind", VISITS)
def test_ended_streams_are_gone(kind: str) -> None:
    """However a stream ends, it and all that belonged to it is freed at once."""

    async def scenario(stage: Stage) -> None:
        http_server = stage.http_server()
        assert await left_by(lambda: visit(stage, http_server, *VISITS[kind]), ROUNDS) == {}

    play(scenario)


@pytest.mark.parametrize("requests", [0, 2])
def test_ended_http_connections_are_gone(requests: int) -> None:
    """One that closes after its answer, as those of many proxies do, is freed at once; so is one that its client closes."""

    async def scenario(stage: Stage) -> None:
        http_server = stage.http_server()
        assert await left_by(lambda: call(http_server, requests), ROUNDS) == {}

    play(scenario)


async def call(http_server: HttpServer, requests: int) -> None:
    """Read an answer that closes, to its end; or those to some requests that are answered at once, and leave."""
    loop = asyncio.get_running_loop()
    async with passing_client(http_server) as (far, _):
        for _ in range(requests):
            await loop.sock_sendall(far, b"OPTIONS /listen HTTP/1.1\r\nHost: test\r\n\r\n")
            while not (await loop.sock_recv(far, 65_536)).endswith(b"\r\n\r\n"):
                pass
        if not requests:
            await loop.sock_sendall(far, b"GET /listen HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        while not requests and await loop.sock_recv(far, 65_536):
            pass
