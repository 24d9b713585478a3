"""Listening sockets: what they accept counts from its first moment, TLS handshakes too."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from tests.http.stage import GET, Stage, play
from tests.waiting import soon

from channelstream.http import listener
from channelstream.http.door import SPARE_SOCKETS, HttpSettings
from channelstream.http.listener import Listener

Visit = Callable[[Stage, int], Awaitable[None]]


def serve_tls(certificate: tuple[str, str], settings: HttpSettings, visit: Visit) -> None:
    """Listen with a certificate while somebody visits the port."""

    async def scene(stage: Stage) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate)
        listening = Listener(stage.door, context)
        port = await listening.listen_at("127.0.0.1", 0)
        try:
            await visit(stage, port)
        finally:
            listening.close()
            await stage.door.abort()

    play(scene, settings)


async def ask(certificate: tuple[str, str], port: int, end: bytes = b"ok") -> bytes:
    """Send a request over TLS and return what comes back, up to its end."""
    trust = ssl.create_default_context(cafile=certificate[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
    writer.write(GET)
    answer = await asyncio.wait_for(reader.readuntil(end), 10)
    writer.close()
    return answer


def test_a_handshake_and_a_request(certificate: tuple[str, str]) -> None:
    """After the handshake it is HTTP; when all are gone nothing counts any more."""

    async def visit(stage: Stage, port: int) -> None:
        assert (await ask(certificate, port)).endswith(b"ok")
        await soon(lambda: stage.door.excess == -1)

    serve_tls(certificate, HttpSettings(max_sockets=1), visit)


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01", GET])
def test_a_handshake_that_does_not_come(
    certificate: tuple[str, str], said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It counts from accept on, has no more time than a head, and leaves nothing in the log."""

    async def visit(stage: Stage, port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setblocking(False)
            await soon(lambda: stage.door.excess == 0)
            client.send(said)
            with suppress(ConnectionError):
                async with asyncio.timeout(10):
                    while await asyncio.get_running_loop().sock_recv(client, 100):
                        pass
        await soon(lambda: stage.door.excess == -1)
        assert stage.asked == []

    serve_tls(certificate, HttpSettings(max_sockets=1, head_timeout_s=0.2), visit)
    assert caplog.records == []


def test_silent_handshakes_fill_the_house(certificate: tuple[str, str]) -> None:
    """Beside as many of them as there may be sockets, a request is answered 503."""

    async def visit(stage: Stage, port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)):
            await soon(lambda: stage.door.excess == 0)
            assert (await ask(certificate, port, b"}")).startswith(b"HTTP/1.1 503 ")

    serve_tls(certificate, HttpSettings(max_sockets=1), visit)


def test_more_than_the_spare_sockets(certificate: tuple[str, str]) -> None:
    """So many above the limit are dropped without a handshake, which costs more than it is worth."""

    async def visit(stage: Stage, port: int) -> None:
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
        await soon(lambda: stage.door.excess == SPARE_SOCKETS)
        for client in clients:
            client.close()

    serve_tls(certificate, HttpSettings(max_sockets=1), visit)


def test_stopping_ends_handshakes(certificate: tuple[str, str]) -> None:
    """A handshake that is not done keeps nobody waiting."""

    async def visit(stage: Stage, port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)):
            await soon(lambda: stage.door.excess == 0)
            await asyncio.wait_for(stage.door.close(), 10)

    serve_tls(certificate, HttpSettings(max_sockets=1), visit)


def test_no_more_descriptors(certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the process can open no more, it waits a little and accepts later."""
    monkeypatch.setattr(listener, "PAUSE_S", 0.01)
    refused: list[int] = []

    class Full(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            if not refused:
                refused.append(errno.EMFILE)
                raise OSError(errno.EMFILE, "too many open files")
            return super().accept()

    async def visit(_stage: Stage, port: int) -> None:
        assert (await ask(certificate, port)).endswith(b"ok")
        assert refused == [errno.EMFILE]

    monkeypatch.setattr(listener, "ListeningSocket", Full)
    serve_tls(certificate, HttpSettings(), visit)
