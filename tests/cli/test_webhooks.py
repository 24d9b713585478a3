"""`channelstream webhooks listen`: what a real server sends is verified and printed."""

import hmac
import os
import re
import signal
import socket
from base64 import b64encode
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from tests.conftest import RunningServer, launch
from tests.http_client import http
from tests.nursery import nursery
from tests.waiting import PATIENCE_S

from channelstream.cli import main
from channelstream.cli.webhooks import BODY_BYTES, Secrets, lines
from channelstream.config import load
from channelstream.config.flags import Flags
from channelstream_client import Webhook

SECRET = "whsec_" + b64encode(b"one that nobody else has in hand").decode()
PUSHER = {"CHANNELSTREAM_PUSHER_KEY": "kit-key", "CHANNELSTREAM_PUSHER_SECRET": "kit-secret-of-some-length"}
SECRETS = {"CHANNELSTREAM_WEBHOOK_SECRET": SECRET, **PUSHER}


class Listener:
    """The running command."""

    def __init__(self, *flags: str, **environ: str) -> None:
        ours, theirs = os.pipe()
        try:
            argv = ["webhooks", "listen", "--port", "0", *flags]
            self.child = nursery().start(argv, os.environ | environ, errors=theirs)
        finally:
            os.close(theirs)
        self.stderr = os.fdopen(ours)
        found = re.search("listening on (.*)$", self.stderr.readline())
        assert found
        self.url = found[1]

    def line_with(self, *texts: str) -> str:
        """Return the next line that it prints with these texts; empty if it ends before."""
        return next((line for line in self.child.stdout if all(text in line for text in texts)), "")

    def end(self) -> None:
        self.child.kill()
        self.child.communicate()
        self.stderr.close()


@pytest.fixture
def listen() -> Iterator[Callable[..., Listener]]:
    started: list[Listener] = []

    def listen(*flags: str, **environ: str) -> Listener:
        started.append(Listener(*flags, **environ))
        return started[-1]

    yield listen
    for each in started:
        each.end()


@pytest.fixture
def server_of() -> Iterator[Callable[..., RunningServer]]:
    """Start a server that sends webhooks in both formats to a listener."""
    started: list[RunningServer] = []

    def server_of(listener: Listener) -> RunningServer:
        urls = {
            "CHANNELSTREAM_WEBHOOK_URLS": f"{listener.url}standard",
            "CHANNELSTREAM_PUSHER_WEBHOOK_URLS": f"{listener.url}pusher",
            "CHANNELSTREAM_WEBHOOK_NETWORKS": "127.0.0.1",
            "CHANNELSTREAM_PUSHER_APP_ID": "4711",
        }
        started.append(launch(**SECRETS, **urls))
        return started[-1]

    yield server_of
    for each in started:
        each.stop()


@pytest.mark.slow
def test_what_a_server_sends_is_printed(
    listen: Callable[..., Listener], server_of: Callable[..., RunningServer]
) -> None:
    """In both formats; Ctrl-C ends with exit code 0."""
    listener = listen(**SECRETS)
    server_of(listener).connect("ann", "pusher/news")
    found = {listener.line_with("occupied").split("event", 1)[0].strip() for _ in range(2)}
    assert found == {"channel_occupied channel='news'", "channel.occupied channel='pusher/news'"}
    listener.child.send_signal(signal.SIGINT)
    assert (listener.child.wait(PATIENCE_S), listener.stderr.read()) == (0, "")


@pytest.mark.slow
def test_a_server_repeats_what_is_not_accepted(
    listen: Callable[..., Listener], server_of: Callable[..., RunningServer]
) -> None:
    """With `--fail` the same call comes again."""
    listener = listen("--fail", **SECRETS)
    server_of(listener).connect("ann", "news")
    first = listener.line_with("msg_").split()[2]
    assert listener.line_with(first)


@pytest.mark.slow
def test_what_is_no_webhook_is_refused(listen: Callable[..., Listener]) -> None:
    """Whatever a stranger sends; the command says why, and goes on."""
    listener = listen(CHANNELSTREAM_WEBHOOK_SECRET=SECRET)

    def status(content: bytes = b"{}", **headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return http.post(listener.url, content=content, headers=named).status_code

    assert status() == 401
    assert "webhook-timestamp is no time" in listener.line_with("refused")
    assert status(webhook_timestamp="1", webhook_signature="v1,AAAA") == 401
    assert "not that of a server with this secret" in listener.line_with("refused")
    assert status(x_pusher_signature="00", x_pusher_key="kit-key") == 401
    assert "give its pusher_key and pusher_secret" in listener.line_with("refused")
    for length in (str(BODY_BYTES + 1), "-1"):
        host, port = urlsplit(listener.url).netloc.split(":")
        line = HTTPConnection(host, int(port), timeout=PATIENCE_S)
        line.request("POST", "/", headers={"content-length": length})
        assert line.getresponse().status == 413
        line.close()
        assert "too long" in listener.line_with("refused")
    listener.child.send_signal(signal.SIGINT)
    assert (listener.child.wait(PATIENCE_S), listener.stderr.read()) == (0, "")


@pytest.mark.slow
def test_a_listener_whose_output_nobody_reads_ends(listen: Callable[..., Listener]) -> None:
    """What it cannot print is not answered, so that a server sends it again."""
    listener = listen(CHANNELSTREAM_WEBHOOK_SECRET=SECRET)
    listener.child.stdout.close()
    with pytest.raises(httpx.RemoteProtocolError):
        http.post(listener.url, content=b"{}")
    assert (listener.child.wait(PATIENCE_S), listener.stderr.read()) == (0, "")


def test_calls_of_all_applications_are_verified(tmp_path: Path) -> None:
    """A file may describe several. The newest of a file of Pusher's signs."""
    of_pusher = tmp_path / "secrets"
    of_pusher.touch(0o600)
    of_pusher.write_text("shop-secret\nolder\n")
    path, other = tmp_path / "apps.ini", "whsec_" + b64encode(b"of the shop, and of nobody else.").decode()
    path.write_text(
        f"[channelstream]\nwebhook_secret = {SECRET}\n[app:shop]\nsecret = x\nwebhook_secret = {other}\n"
        f"pusher_app_id = 1\npusher_key = shop-key\npusher_secret_file = {of_pusher}\n"
    )
    found = Secrets.of(load(Flags(str(path), {}), {}).settings)
    assert found == ((SECRET, other), {"shop-key": "shop-secret"})
    body = b'{"time_ms":1000,"events":[]}'
    signed = {
        "x-pusher-key": "shop-key",
        "x-pusher-signature": hmac.digest(b"shop-secret", body, "sha256").hex(),
    }
    assert found.verified(signed, body) == Webhook("", 1.0, ())


def test_a_file_of_secrets_that_cannot_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    """It is named by a flag, as the secret may be."""
    assert main(["webhooks", "listen", "--pusher-key", "k", "--pusher-secret-file", "/none"], {}) == 2
    assert "pusher_secret_file: '/none' cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["x", "65536"])
def test_a_port_out_of_range_is_refused(capsys: pytest.CaptureFixture[str], port: str) -> None:
    assert main(["webhooks", "listen", "--port", port], {}) == 2
    said = f"channelstream: --port: '{port}' is not a whole number from 0 to 65535\n"
    assert capsys.readouterr().err == said


def test_a_port_in_use_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["webhooks", "listen", "--port", str(port)], {}) == 2
    assert capsys.readouterr().err == (
        f"channelstream: cannot listen on 127.0.0.1:{port}: Address already in use;"
        " name another address with --host or --port\n"
    )


def test_both_formats_are_printed_alike() -> None:
    """With the time at which they came, whenever they were sent."""
    event = {"id": "1", "type": "channel.vacated", "timestamp": "now", "channel": "news"}
    standard = list(lines(Webhook("msg_1", 30.0, (event,)), 3600.0))
    pusher = list(lines(Webhook("", 0.5, ({"name": "channel_vacated", "channel": "news"},) * 2), 3600.0))
    assert standard == ["01:00:00 standard msg_1: 1 event", "    channel.vacated channel='news'"]
    assert pusher == ["01:00:00 pusher: 2 events", *["    channel_vacated channel='news'"] * 2]


def test_nothing_that_a_terminal_would_execute_is_printed() -> None:
    """Names and data are those of clients."""
    event = {"id": "1", "type": "\x1b[2J", "timestamp": "now", "channel": "a\nb\x1b[2J", "user": "Zoë"}
    printed = list(lines(Webhook("msg_1", 0.0, (event,)), 0.0))
    assert printed == ["00:00:00 standard msg_1: 1 event", r"    \x1b[2J channel='a\nb\x1b[2J' user='Zoë'"]
