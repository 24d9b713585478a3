"""Requests of strangers leave nothing to the garbage collector, which runs rarely (`lifecycle.GC_THRESHOLDS`).

It counts objects and not their bytes: bodies of 4 MiB that only it could free would be gigabytes before it runs.
"""

import asyncio
import time

import pytest
import uvloop
from tests.census import left_by, passing_client
from tests.waiting import PATIENCE_S, soon

from channelstream.config import Settings
from channelstream.http.shared import HttpServer
from channelstream.server import build

pytestmark = pytest.mark.slow

ROUNDS = 20
PROOF = b"authorization: CS-HMAC-SHA256 key=, ts=NOW, nonce=a-nonce-of-a-test, sig=%b\r\n"
LENGTH = b"Content-Length: %d\r\n"
LEFT = {
    "a call": (b"POST /message", (PROOF + LENGTH) % (b"a" * 64, 300_000), b"{"),
    "a call without credentials": (b"POST /disconnect", LENGTH % 300, b"{"),
}
"""Requests whose clients leave before all of the body is sent; NOW is the time at which each is sent."""
REFUSED = {
    "a body that is not JSON": (b"POST /disconnect", LENGTH % 1, b"{"),
    "a wrong signature": (b"POST /message", b"x-channelstream-secret: a.b.c\r\n", b""),
    "a signature without a time": (b"POST /message", b"x-channelstream-secret: a\r\n", b""),
    "a page without a cookie": (b"GET /admin", b"", b""),
    "a page with a wrong cookie": (b"GET /admin", b"Cookie: auth_tkt=a.b.c\r\n", b""),
    "the demo with a wrong cookie": (b"GET /demo", b"Cookie: demo_visitor=a.b.c\r\n", b""),
}
"""Requests that are answered."""


async def send(http_server: HttpServer, request: tuple[bytes, bytes, bytes], is_answered: bool) -> None:
    """Send a request, wait until it is read or answered, and leave."""
    line, fields, body = request
    loop = asyncio.get_running_loop()
    async with passing_client(http_server) as (far, connection):
        fields = fields.replace(b"NOW", b"%d" % time.time())
        await loop.sock_sendall(far, line + b" HTTP/1.1\r\nHost: test\r\n" + fields + b"\r\n" + body)
        if is_answered:
            async with asyncio.timeout(PATIENCE_S):
                assert (await loop.sock_recv(far, 65_536)).startswith(b"HTTP/1.1 ")
        else:
            await soon(lambda: connection.receiving is not None)


@pytest.mark.parametrize(
    ("request_", "is_answered"),
    [*((each, False) for each in LEFT.values()), *((each, True) for each in REFUSED.values())],
    ids=[*LEFT, *REFUSED],
)
def test_requests_of_strangers_are_gone(request_: tuple[bytes, bytes, bytes], is_answered: bool) -> None:
    """All that belonged to a request is freed with its connection, however it ends."""

    async def scenario() -> None:
        server = build(Settings(secret="x", admin_secret="y", demo=True))
        await server.node.start()
        assert await left_by(lambda: send(server._http_server, request_, is_answered), ROUNDS) == {}

    uvloop.run(scenario())
