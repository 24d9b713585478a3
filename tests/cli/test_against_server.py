"""`publish`, `listen` and `sign` against a real server."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import IO, Any, cast

import pytest
from tests.http_client import http
from tests.nursery import nursery
from tests.waiting import PATIENCE_S

from channelstream.cli import main
from channelstream.cli.listen import STREAMS, Subscriber
from channelstream.cli.remote import Server
from channelstream.cli.signing_key import SigningKey
from channelstream_client.protocol import LOST, NORMAL, StreamEnded
from channelstream_client.reach import Reach
from channelstream_client.streams import Opening, Stream

pytestmark = pytest.mark.slow


class Started:
    """A running command.

    Attributes:
        stdout: what it prints.
        stderr: what it says besides.
    """

    def __init__(self, *argv: str) -> None:
        ours, theirs = os.pipe()
        try:
            self.child = nursery().start(argv, os.environ, errors=theirs)
        finally:
            os.close(theirs)
        self.stdout, self.stderr = self.child.stdout, os.fdopen(ours)

    def end(self) -> None:
        self.child.kill()
        self.child.communicate()
        self.stderr.close()


Listen = Callable[..., Started]


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Start `channelstream listen` and wait until it says that it listens."""
    started: list[Started] = []

    def listen(server: Any, channel: str, transport: str = "ws", *where: str) -> Started:
        address = where or ("--url", server.url, "-s", server.secret)
        started.append(Started("listen", "-c", channel, "--transport", transport, *address))
        assert line_with(started[-1].stderr, "listening to")
        return started[-1]

    yield listen
    for process in started:
        process.end()


def line_with(stream: IO[str] | None, text: str) -> str:
    """Return the first line with a text in it, empty where the stream ends before."""
    assert stream is not None
    return next((line for line in stream if text in line), "")


def lines_up_to(stream: IO[str] | None, text: str) -> Iterator[str]:
    """Yield the lines up to the first one with a text in it."""
    assert stream is not None
    for line in stream:
        yield line
        if text in line:
            return


def publish(server: Any, channel: str, message: object) -> None:
    argv = ["publish", "--url", server.url, "-s", server.secret, "-c", channel, json.dumps(message)]
    assert main(argv, {}) == 0


@pytest.mark.parametrize("transport", STREAMS)
def test_listen_prints_what_publish_sent(server: Any, listen: Listen, transport: str) -> None:
    """Each message is one line of JSON, in the order of sending; Ctrl-C ends with exit code 0."""
    channel = f"cli-{transport}"
    process = listen(server, channel, transport)
    for number in range(3):
        publish(server, channel, {"number": number})
    printed = [json.loads(line_with(process.stdout, '"number"')) for _ in range(3)]
    assert [item["message"] for item in printed] == [{"number": 0}, {"number": 1}, {"number": 2}]
    assert {item["channel"] for item in printed} == {channel}
    process.child.send_signal(signal.SIGINT)
    assert (process.child.wait(PATIENCE_S), process.stderr.read()) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_listen_ends_as_with_ctrl_c(server: Any, listen: Listen, number: signal.Signals) -> None:
    """When a service manager stops it, or its terminal is closed."""
    process = listen(server, "cli-ended")
    process.child.send_signal(number)
    assert (process.child.wait(PATIENCE_S), process.stderr.read()) == (0, "")


def test_listen_ends_when_nobody_reads_it(server: Any, listen: Listen) -> None:
    """As with `| head -1`, quietly, and before it has more to print."""
    process = listen(server, "cli-unread")
    process.stdout.close()
    assert (process.child.wait(PATIENCE_S), process.stderr.read()) == (0, "")


def test_a_trace_that_nobody_reads_is_stopped(server: Any) -> None:
    """At the server, too."""
    trace = Started("trace", "--url", server.url, "-s", server.secret, "--channel", "cli-untraced")
    assert line_with(trace.stderr, "tracing channel")
    trace.stdout.close()
    publish(server, "cli-untraced", "unread")
    assert (trace.child.wait(PATIENCE_S), trace.stderr.read()) == (0, "")
    trace.end()
    remote = Server(server.url, SigningKey("", server.secret))
    assert remote.get("/admin/trace.json", {"channel": "cli-untraced"}, dict)["seconds_left"] == 0


class Dropping:
    """A real stream that drops as soon as it is up, then after every message, and ends after the message "last".

    A message is sent before each of the later streams opens.
    """

    def __init__(self, stream: Stream, send: Callable[[str], None]) -> None:
        self._stream = stream
        self._send = send
        self.unsent = ["first", "second", "last"]

    async def __call__(self, opening: Opening, reach: Reach) -> AsyncIterator[str | bytes]:
        is_first = not opening.position
        if self.unsent and not is_first:
            await asyncio.to_thread(self._send, self.unsent.pop(0))
        lists = cast("AsyncGenerator[str | bytes, None]", self._stream(opening, reach))
        async with aclosing(lists):
            async for text in lists:
                yield text
                items = json.loads(text)
                if (is_first and items) or any(item["type"] == "message" for item in items):
                    break
        raise StreamEnded(NORMAL if items[-1].get("message") == "last" else LOST, "")


@pytest.mark.parametrize("transport", STREAMS)
def test_nothing_is_missed_between_streams(
    server: Any, transport: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Messages sent while no stream is open are printed once, after the reconnect."""
    channel = f"cli-gap-{transport}"

    def send(text: str) -> None:
        server.post("/message", [{"channel": channel, "user": "bob", "message": text}])

    stream = Dropping(STREAMS[transport], send)
    remote = Server(server.url, SigningKey("", server.secret))
    assert Subscriber(remote, "alice", [channel], stream, jitter=lambda: 0.0).listen() == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [item["message"] for item in printed] == ["first", "second", "last"]


def test_listen_reaches_a_unix_socket(start_server: Any, tmp_path: Path, listen: Listen) -> None:
    """Every transport gets through the socket of a server that has no port."""
    path = str(tmp_path / "c.sock")
    server = start_server("--unix-socket", path)
    for transport in STREAMS:
        process = listen(server, "cli-unix", transport, "--unix-socket", path, "-s", server.secret)
        argv = ["publish", "--unix-socket", path, "-s", server.secret, "-c", "cli-unix", transport]
        assert main(argv, {}) == 0
        assert f'"{transport}"' in line_with(process.stdout, '"message"')


def test_listen_outlives_a_restart(start_server: Any, port: str, listen: Listen) -> None:
    """It subscribes again at a server that has forgotten it, says what may be missing, and prints later events."""
    first = start_server("-p", port)
    process = listen(first, "cli-restart")
    publish(first, "cli-restart", "before")
    assert '"before"' in line_with(process.stdout, '"message"')
    first.stop()
    second = start_server("-p", port)
    said = list(lines_up_to(process.stderr, "missing"))
    assert said[-1] == "channelstream: events may be missing from: private messages, cli-restart\n"
    assert said[0].startswith("channelstream: stream ended: ")
    assert all(line.startswith("channelstream: no stream: ") for line in said[1:-1])
    publish(second, "cli-restart", "after")
    assert '"after"' in line_with(process.stdout, '"message": "after"')


def test_sign_opens_the_api(server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The printed headers are those of a request that the server answers."""
    assert main(["sign", "/info", "-s", server.secret], {}) == 0
    headers = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert http.get(server.url + "/info", headers=headers).status_code == 200
    assert http.get(server.url + "/info").status_code == 403


@pytest.mark.parametrize("app_id", ["default", "shop"])
def test_commands_sign_with_a_key(
    start_server: Any, listen: Listen, tmp_path: Path, capsys: pytest.CaptureFixture[str], app_id: str
) -> None:
    """Each command calls the application of the key, where the server takes no other signatures."""
    file = tmp_path / "keys.json"
    file.touch(0o600)
    file.write_text(json.dumps({"keys": [{"id": "web-1", "secret": "w" * 32, "app": app_id}]}))
    server = start_server(
        "--keys-file", str(file), "--request-signing", "signed", CHANNELSTREAM_APP_SHOP_SECRET="of the shop"
    )
    where = ["--url", server.url, "--key", "web-1", "--keys-file", str(file)]
    process = listen(server, "news", "ws", *where)
    assert main(["publish", *where, "-c", "news", "hello"], {}) == 0
    assert json.loads(line_with(process.stdout, "message"))["message"] == "hello"
    capsys.readouterr()
    assert main(["sign", "/info", *where[2:]], {}) == 0
    headers = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert list(http.get(server.url + "/info", headers=headers).json()["channels"]) == ["news"]
    trace = Started("trace", *where, "--channel", "news")
    assert line_with(trace.stderr, "tracing channel news")
    trace.child.send_signal(signal.SIGINT)
    assert trace.child.wait(PATIENCE_S) == 0
    trace.end()
