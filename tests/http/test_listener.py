"""Listening sockets: an accepted socket counts at once, TLS handshakes too."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.http.stage import GET, Stage, play, turns
from tests.waiting import PATIENCE_S, soon

from channelstream.http import closing, listener
from channelstream.http.asgi import Send
from channelstream.http.connection import HttpConnection
from channelstream.http.inbound import TLS_PAUSED_BYTES
from channelstream.http.listener import TLS_RECEIVED_BYTES, Listener
from channelstream.http.outbound import WAITING_BYTES
from channelstream.http.shared import SPARE_SOCKETS, HttpSettings

Visit = Callable[[Stage, int], Awaitable[None]]


def serve_tls(certificate: tuple[str, str], settings: HttpSettings, visit: Visit) -> None:
    """Listen with a certificate while a client uses the port."""

    async def scene(stage: Stage) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate)
        listening = Listener(stage.http_server, context)
        port = await listening.listen_at("127.0.0.1", 0)
        try:
            await visit(stage, port)
        finally:
            listening.close()
            await stage.http_server.abort()

    play(scene, settings)


async def ask(certificate: tuple[str, str], port: int, end: bytes = b"ok") -> bytes:
    """Send a request over TLS and return the whole answer."""
    trust = ssl.create_default_context(cafile=certificate[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
    writer.write(GET)
    answer = await asyncio.wait_for(reader.readuntil(end), PATIENCE_S)
    writer.close()
    return answer


def test_a_tls_handshake_is_followed_by_http(certificate: tuple[str, str]) -> None:
    """After the handshake it is HTTP; when all have closed the count is 0."""

    async def visit(stage: Stage, port: int) -> None:
        assert (await ask(certificate, port)).endswith(b"ok")
        await soon(lambda: stage.http_server.excess == -1)

    serve_tls(certificate, HttpSettings(max_sockets=1), visit)


def test_a_tls_connection_buffers_no_more_than_another_one(certificate: tuple[str, str]) -> None:
    """The loop's own bounds would let 512 KiB wait for a client, and receive 256 KiB while reading is paused."""

    async def visit(stage: Stage, port: int) -> None:
        trust = ssl.create_default_context(cafile=certificate[0])
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
        await soon(lambda: any(isinstance(each, HttpConnection) for each in stage.http_server.sockets))
        [connection] = stage.http_server.sockets
        assert isinstance(connection, HttpConnection)
        transport: Any = connection._transport
        assert transport.get_write_buffer_limits()[1] == WAITING_BYTES
        assert transport.get_read_buffer_limits()[1] == TLS_PAUSED_BYTES
        writer.close()

    serve_tls(certificate, HttpSettings(), visit)


def test_a_listening_socket_is_with_tls_as_it_was(certificate: tuple[str, str]) -> None:
    """Only accepted ones receive less at once: an upgrade may leave the listening one to a process without TLS."""
    bound = socket.create_server(("127.0.0.1", 0))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    trust = ssl.create_default_context(cafile=certificate[0])
    seen = [received_bytes(bound)]

    async def scene(stage: Stage) -> None:
        listening = Listener(stage.http_server, context)
        await listening.listen_on([bound.dup()])
        try:
            _, writer = await asyncio.open_connection(*bound.getsockname(), ssl=trust)
            await soon(lambda: any(isinstance(each, HttpConnection) for each in stage.http_server.sockets))
            [connection] = stage.http_server.sockets
            assert isinstance(connection, HttpConnection)
            seen.append(received_bytes(connection._transport.get_extra_info("socket")))
            writer.close()
        finally:
            listening.close()
            await stage.http_server.abort()

    with bound:
        play(scene)
        # Linux has twice what was set, for its own costs.
        assert seen[1] == 2 * TLS_RECEIVED_BYTES
        assert received_bytes(bound) == seen[0]


def received_bytes(line: socket.socket) -> int:
    """Return what the kernel receives before it is read."""
    return line.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01", GET])
def test_a_missing_tls_handshake_times_out(
    certificate: tuple[str, str], said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It counts from accept on, has the time limit of a head, and leaves nothing in the log."""

    async def visit(stage: Stage, port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setblocking(False)
            with suppress(ConnectionError):
                client.send(said)
                async with asyncio.timeout(PATIENCE_S):
                    while await asyncio.get_running_loop().sock_recv(client, 100):
                        pass
        await soon(lambda: stage.http_server.excess == -1)
        assert stage.asked == []

    serve_tls(certificate, HttpSettings(max_sockets=1, head_timeout_s=0.2), visit)
    assert caplog.records == []


def test_silent_handshakes_count_as_sockets(certificate: tuple[str, str]) -> None:
    """At the limit of sockets a request is answered 503."""

    async def visit(stage: Stage, port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)):
            await soon(lambda: stage.http_server.excess == 0)
            assert (await ask(certificate, port, b"}")).startswith(b"HTTP/1.1 503 ")

    serve_tls(certificate, HttpSettings(max_sockets=1), visit)


def test_sockets_beyond_the_spare_ones_are_dropped(
    certificate: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Without a handshake, which would cost too much, and with a line in the log: nothing else tells of silent clients."""

    async def visit(stage: Stage, port: int) -> None:
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
        await soon(lambda: stage.http_server.excess == SPARE_SOCKETS)
        await soon(lambda: bool(caplog.messages))
        for client in clients:
            client.close()

    serve_tls(certificate, HttpSettings(max_sockets=1), visit)
    assert caplog.messages == [
        "1 sockets are open, as many as this process takes: further clients are refused"
    ]


def test_stopping_ends_handshakes(certificate: tuple[str, str]) -> None:
    """An unfinished handshake does not delay the stop."""

    async def visit(stage: Stage, port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)):
            await soon(lambda: stage.http_server.excess == 0)
            await asyncio.wait_for(stage.http_server.close(), PATIENCE_S)

    serve_tls(certificate, HttpSettings(max_sockets=1), visit)


@pytest.mark.parametrize("is_unix", [False, True])
def test_waiting_connections_are_accepted_many_in_a_turn(tmp_path: Path, is_unix: bool) -> None:
    """The loop accepts one in each turn: with long turns the queue of the kernel would be full."""
    count = 3 * listener.ACCEPTS_AT_ONCE

    async def scene(stage: Stage) -> None:
        listening = Listener(stage.http_server)
        address: str | tuple[str, int] = str(tmp_path / "socket")
        if is_unix:
            await listening.listen_at_path(str(address))
        else:
            address = "127.0.0.1", await listening.listen_at("127.0.0.1", 0)
        clients = [socket.socket(socket.AF_UNIX if is_unix else socket.AF_INET) for _ in range(count)]
        try:
            for client in clients:
                client.connect(address)
            await turns(8)
            assert stage.http_server.excess == 0
            clients[-1].sendall(GET)
            clients[-1].setblocking(False)
            answered = asyncio.get_running_loop().sock_recv(clients[-1], 1000)
            assert (await asyncio.wait_for(answered, PATIENCE_S)).startswith(b"HTTP/1.1 200 ")
        finally:
            for client in clients:
                client.close()
            listening.close()
            await stage.http_server.abort()

    play(scene, HttpSettings(max_sockets=count))


def test_accepting_resumes_after_descriptors_ran_out(
    certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the process has no free descriptor, it waits a little and accepts later."""
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


def test_accepting_waits_for_the_end_of_its_pause(
    certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The waiting connection stays readable: without the pause the loop would try it in every turn."""
    monkeypatch.setattr(listener, "PAUSE_S", PATIENCE_S)
    tried: list[bool] = []

    class Full(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            tried.append(True)
            raise OSError(errno.EMFILE, "too many open files")

    async def visit(_stage: Stage, port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)):
            await soon(lambda: tried == [True])
            await turns()
            assert tried == [True]

    monkeypatch.setattr(listener, "ListeningSocket", Full)
    serve_tls(certificate, HttpSettings(), visit)


def test_a_listener_that_stops_while_accepting_pauses_accepts_no_more(
    certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A process without a free descriptor stops without an error in its log."""
    monkeypatch.setattr(listener, "PAUSE_S", 0.0)
    stopped: list[bool] = []
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)

    async def scene(stage: Stage) -> None:
        listening = Listener(stage.http_server, context)

        def stop() -> None:
            listening.close()
            stopped.append(True)

        class Full(socket.socket):
            def accept(self) -> tuple[socket.socket, object]:
                asyncio.get_running_loop().call_soon(stop)
                raise OSError(errno.EMFILE, "too many open files")

        monkeypatch.setattr(listener, "ListeningSocket", Full)
        port = await listening.listen_at("127.0.0.1", 0)
        with socket.create_connection(("127.0.0.1", port)):
            await soon(lambda: stopped == [True])
            await turns()

    play(scene)
    assert caplog.records == []


# -- the end of TLS


def visit_in_silence(certificate: tuple[str, str], port: int, request: bytes) -> ssl.SSLSocket:
    """Send a request as a client does that does not watch its idle connections."""
    trust = ssl.create_default_context(cafile=certificate[0])
    plain = socket.create_connection(("127.0.0.1", port), timeout=30)
    client = trust.wrap_socket(plain, server_hostname="127.0.0.1")
    client.sendall(request)
    return client


def test_stopping_does_not_wait_for_close_notify(certificate: tuple[str, str]) -> None:
    """The stop does not wait for it, as `close_notify` need not be answered; it has its answer, and a clean end."""

    async def visit(stage: Stage, port: int) -> None:
        client = await asyncio.to_thread(visit_in_silence, certificate, port, GET)
        answer = b""
        while not answer.endswith(b"ok"):
            answer += await asyncio.to_thread(client.recv, 1000)
        await asyncio.wait_for(stage.http_server.close(), 20)
        assert await asyncio.to_thread(client.recv, 1000) == b""
        client.close()

    serve_tls(certificate, HttpSettings(), visit)


def test_a_slow_reader_gets_its_whole_answer_after_the_end(
    certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets its whole answer, however often the closing socket is checked while it reads."""
    monkeypatch.setattr(closing, "CHECK_S", 0.001)
    body = b"x" * 8_000_000

    async def long_answer(_scope: object, _receive: object, send: Send) -> None:
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def read_all(client: ssl.SSLSocket) -> int:
        size = 0
        while part := client.recv(65_536):
            size += len(part)
        return size

    async def visit(stage: Stage, port: int) -> None:
        stage.answer = long_answer
        request = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        client = await asyncio.to_thread(visit_in_silence, certificate, port, request)
        await soon(lambda: stage.asked == ["/a"])
        assert await asyncio.to_thread(read_all, client) > len(body)
        client.close()

    serve_tls(certificate, HttpSettings(), visit)
