"""`publish`, `listen` and `sign` against a real server."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import IO, Any, cast

import pytest
from tests.http_client import http
from tests.waiting import PATIENCE_S

from channelstream.cli import main
from channelstream.cli.listen import Subscriber
from channelstream.cli.remote import Server
from channelstream.cli.streams import LOST, STREAMS, Item, ResumePoint, StreamEnded
from channelstream.errors import CloseCode

pytestmark = pytest.mark.slow

Listen = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Start `channelstream listen` and wait until it says that it listens."""
    started: list[subprocess.Popen[str]] = []

    def listen(server: Any, channel: str, transport: str = "ws") -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "channelstream", "listen", "-c", channel, "--transport", transport]
        process = subprocess.Popen(
            [*command, "--url", server.url, "-s", server.secret],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        assert line_with(process.stderr, "listening to")
        return process

    yield listen
    for process in started:
        process.kill()
        process.communicate()


def line_with(stream: IO[str] | None, text: str) -> str:
    """Return the first line with a text in it, empty where the stream ends before."""
    assert stream is not None
    return next((line for line in stream if text in line), "")


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
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (0, "")


class Dropping:
    """A real stream that drops as soon as it is up, then after every message, and ends after the message "last"."""

    def __init__(self, transport: str) -> None:
        self._stream = STREAMS[transport]

    def __call__(self, server: Server, place: ResumePoint) -> Iterator[Item]:
        is_first = not place.position
        item: Item = {}
        with closing(cast("Generator[Item, None, None]", self._stream(server, place))) as items:
            for item in items:
                yield item
                if is_first or item["type"] == "message":
                    break
        raise StreamEnded(CloseCode.NORMAL if item.get("message") == "last" else LOST, "")


@pytest.mark.parametrize("transport", STREAMS)
def test_nothing_is_missed_between_streams(
    server: Any, transport: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Messages sent while no stream is open are printed once, after the reconnect."""
    channel = f"cli-gap-{transport}"
    sent: list[str] = []

    def wait(_: float) -> None:
        sent.append(["first", "second", "last"][len(sent)])
        server.post("/message", [{"channel": channel, "user": "bob", "message": sent[-1]}])

    remote = Server(server.url, server.secret)
    assert Subscriber(remote, "alice", [channel], Dropping(transport), wait=wait).listen() == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [item["message"] for item in printed] == sent == ["first", "second", "last"]


def test_listen_outlives_a_restart(start_server: Any, listen: Listen) -> None:
    """It subscribes again at a server that has forgotten it, says what may be missing, and prints later events."""
    first = start_server()
    process = listen(first, "cli-restart")
    publish(first, "cli-restart", "before")
    assert '"before"' in line_with(process.stdout, '"message"')
    first.stop()
    second = start_server("-p", str(first.port))
    assert "missing from: private messages, cli-restart\n" in line_with(process.stderr, "missing")
    publish(second, "cli-restart", "after")
    assert '"after"' in line_with(process.stdout, '"message": "after"')


def test_sign_opens_the_api(server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The printed headers are those of a request that the server answers."""
    assert main(["sign", "/info", "-s", server.secret], {}) == 0
    headers = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert http.get(server.url + "/info", headers=headers).status_code == 200
    assert http.get(server.url + "/info").status_code == 403
