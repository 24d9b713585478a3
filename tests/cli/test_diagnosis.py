"""Errors of client commands at a server that does not answer as a channelstream does."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest

from channelstream.cli import main
from channelstream_client.testing.port import HeldPort

COMMANDS = {
    "publish": ["-c", "news", "hi"],
    "listen": ["-c", "news"],
    "trace": ["--user", "ann"],
}
every_command = pytest.mark.parametrize("command", COMMANDS)


@contextmanager
def answering(answer: bytes, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of a server that sends the same bytes to every client."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = Thread(target=_answer_all, args=(listening, answer, tls))
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RD)
            thread.join()


def _answer_all(listening: socket.socket, answer: bytes, tls: ssl.SSLContext | None) -> None:
    while True:
        try:
            accepted, _ = listening.accept()
        except OSError:
            return
        try:
            with tls.wrap_socket(accepted, server_side=True) if tls else accepted as stream:
                stream.recv(65536)
                stream.sendall(answer)
                stream.shutdown(socket.SHUT_WR)
                while stream.recv(65536):
                    pass  # To close over what was not read would take the answer back.
        except OSError:
            accepted.close()


def http(status: str, body: str, *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(head).encode() + body.encode()


def complaint(capsys: pytest.CaptureFixture[str], command: str, *flags: str) -> str:
    """The one line a command ends with."""
    assert main([command, *COMMANDS[command], *flags], {}) == 1
    [line] = capsys.readouterr().err.splitlines()
    return line.removeprefix("channelstream: ")


@pytest.fixture
def tls(certificate: tuple[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    return context


@every_command
def test_an_unused_port_is_named(capsys: pytest.CaptureFixture[str], command: str) -> None:
    """A port without a listener is named with the remedy."""
    advice = "start the server, or pass its address with --url"
    with HeldPort() as port:
        url = f"http://127.0.0.1:{port.number}"
        assert complaint(capsys, command, "--url", url) == f"nothing listens at {url}: {advice}"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            socket.EAI_NONAME,
            "there is no host 'push.example': correct the address http://push.example:8000",
        ),
        (socket.EAI_AGAIN, "the name 'push.example' cannot be looked up now"),
    ],
)
def test_a_name_without_an_address(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, code: int, said: str
) -> None:
    """So the servers of names say, or none of them answers."""

    def getaddrinfo(*_: object, **__: object) -> None:
        raise socket.gaierror(code, "as the system says it")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert complaint(capsys, "publish", "--url", "http://push.example:8000") == said


@pytest.mark.slow
@every_command
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (http("200 OK", "<html>"), "is not a channelstream server: its answer to /"),
        (http("200 OK", '"hello"'), "is not a channelstream server: its answer to /"),
        (http("200 OK", "[" * 100_000), "is not a channelstream server: its answer to /"),
        (http("404 Not Found", "<html>"), " with 404 and no JSON"),
        (http("404 Not Found", "[" * 100_000), " with 404 and no JSON"),
        (http("502 Bad Gateway", "<html>"), "is a proxy whose server does not answer (502)"),
        (http("301 Moved", "", "Location: https://x/"), "to 'https://x/': use that address"),
        (http("400 Bad Request", "sent to HTTPS port"), "uses TLS: use an address with https://"),
        (b"220 mail.example ESMTP\r\n", "does not answer with HTTP, so it is not a channelstream server: "),
    ],
    ids=["html", "text", "nesting", "404", "404 and nesting", "proxy", "redirect", "TLS", "SMTP"],
)
def test_another_program_is_named(
    capsys: pytest.CaptureFixture[str], command: str, answer: bytes, said: str
) -> None:
    """A server that is not a channelstream is named as such, and no traceback follows."""
    with answering(answer) as port:
        assert said in complaint(capsys, command, "--url", f"http://127.0.0.1:{port}")


@pytest.mark.slow
@every_command
def test_a_server_with_tls_is_recognized(
    capsys: pytest.CaptureFixture[str], tls: ssl.SSLContext, command: str
) -> None:
    """A server that speaks TLS is recognized when it is spoken HTTP to."""
    with answering(b"", tls) as port:
        url = f"http://127.0.0.1:{port}"
        assert complaint(capsys, command, "--url", url) == f"{url} uses TLS: use an address with https://"


@every_command
def test_a_server_without_tls_is_recognized(capsys: pytest.CaptureFixture[str], command: str) -> None:
    """A server that speaks no TLS is recognized when it is spoken TLS to."""
    with answering(http("400 Bad Request", "")) as port:
        url = f"https://127.0.0.1:{port}"
        assert (
            complaint(capsys, command, "--url", url) == f"{url} does not use TLS: use an address with http://"
        )


@pytest.mark.slow
@every_command
def test_a_certificate_of_an_unknown_authority_is_refused(
    capsys: pytest.CaptureFixture[str], tls: ssl.SSLContext, certificate: tuple[str, str], command: str
) -> None:
    """A certificate of an unknown authority is refused until an option names it."""
    with answering(http("200 OK", '"hello"'), tls) as port:
        url = f"https://127.0.0.1:{port}"
        line = complaint(capsys, command, "--url", url)
        assert line.startswith(f"the certificate of {url} is not trusted (")
        assert line.endswith("--ssl-certfile")
        line = complaint(capsys, command, "--url", url, "--ssl-certfile", certificate[0])
        assert line.startswith(f"{url} is not a channelstream server: its answer to /")
