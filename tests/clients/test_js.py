"""The JavaScript client in node: its own tests, and what it receives from a real server over lines that break."""

import gzip
import json
import queue
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from math import ceil
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.conftest import RunningServer, StartServer, launch
from tests.line import Line
from tests.token_client import SECRET, token
from tests.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients" / "js"
LISTENER = Path(__file__).with_name("listener.js")
TRANSPORTS = ["websocket", "sse", "poll"]
QUICK = {"backoffBaseMs": 50, "backoffCapMs": 200, "spreadMs": 50, "openTimeoutMs": 500}
LIMIT_BYTES = 9_700
"""Bound of the file as gzip compresses it. How well it does so differs by some bytes between versions of zlib."""
SHORT_POLLS = {"CHANNELSTREAM_POLL_TIMEOUT_S": "0.5"}


@pytest.fixture(scope="module")
def node() -> str:
    path = shutil.which("node")
    if path is None:
        pytest.skip("No node on the PATH.")
    return path


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """A server for these tests, whose polls are short (only the first answer of a resumed poll shows that it works)
    and whose heartbeats are frequent, so that a test can soon call a line silent."""
    running = launch(**SHORT_POLLS, CHANNELSTREAM_HEARTBEAT_INTERVAL_S="0.25")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def token_server() -> Iterator[RunningServer]:
    """A server that accepts tokens."""
    running = launch("-s", SECRET, **SHORT_POLLS, CHANNELSTREAM_TOKEN_MAX_AGE_S="3600")
    running.secret = SECRET
    yield running
    running.stop()


class Listener:
    """A stream in a process of node, and what it has received.

    Attributes:
        received: every event until now.
    """

    def __init__(self, node: str, url: str, **options: Any) -> None:
        paths = {
            "client": str(CLIENT / "channelstream.js"),
            "websocket": str(CLIENT / "test" / "websocket.js"),
        }
        argument = json.dumps(paths | {"url": url} | QUICK | options)
        self.process = subprocess.Popen(
            [node, str(LISTENER), argument], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.received: list[dict[str, Any]] = []
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._events.put(json.loads(line))

    def until(self, kind: str, **keys: Any) -> dict[str, Any]:
        """Return the next event of a type that has these keys."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                event = self._events.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"No {kind} {keys} among {self.received}")
            self.received.append(event)
            if event["type"] == kind and keys.items() <= event.items():
                return event

    def answer(self, answer: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(answer) + "\n")
        self.process.stdin.flush()

    def texts(self) -> list[str]:
        return [event["message"]["text"] for event in self.received if event["type"] == "message"]

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


Listen = Callable[..., Listener]


@pytest.fixture
def listen(node: str) -> Iterator[Listen]:
    """Start listeners; they end with the test."""
    started: list[Listener] = []

    def listen(url: str, **options: Any) -> Listener:
        started.append(Listener(node, url, **options))
        return started[-1]

    yield listen
    for listener in started:
        listener.stop()


@pytest.fixture
def token_line(token_server: RunningServer) -> Iterator[Line]:
    line = Line(token_server.port)
    yield line
    line.close()


@pytest.fixture
def line(server: RunningServer) -> Iterator[Line]:
    line = Line(server.port)
    yield line
    line.close()


def connection(server: RunningServer, *channels: str, **more: Any) -> dict[str, Any]:
    wish = {"username": "js", "channels": list(channels), "info": {"include_users": True}, **more}
    answer: dict[str, Any] = server.post("/connect", wish)
    return answer


def say(server: RunningServer, channel: str, text: str, **more: Any) -> None:
    server.post("/message", [{"user": "app", "channel": channel, "message": {"text": text, **more}}])


def test_its_own_tests_pass(node: str) -> None:
    """Tests that need no server run in node's own runner."""
    files = sorted(map(str, (CLIENT / "test").glob("*.test.js")))
    done = subprocess.run([node, "--test", *files], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout


def test_it_is_within_its_size_limit() -> None:
    """It keeps within its limit as it is shipped, compressed, and its pages name that limit."""
    source = (CLIENT / "channelstream.js").read_bytes()
    assert len(gzip.compress(source, 9, mtime=0)) < LIMIT_BYTES
    for page in (CLIENT / "README.md", ROOT / "CHANGELOG.md"):
        sizes = re.findall(r"without dependencies,? (?:less than|and under) (\d+) KB", page.read_text())
        assert sizes == [str(ceil(LIMIT_BYTES / 1_000))], page


def test_its_version_is_the_servers() -> None:
    """In npm's spelling."""
    package = json.loads((CLIENT / "package.json").read_text())
    assert package["version"] == re.sub(r"\.dev", "-dev.", version("channelstream"))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_message_is_received(server: RunningServer, listen: Listen, transport: str) -> None:
    """On each transport, until the application closes the stream, which ends the connection."""
    channel = uuid4().hex
    granted = connection(server, channel)
    listener = listen(server.url, connection=granted, transports=[transport])
    listener.until("open", transport=transport)
    say(server, channel, "hi", last=True)
    assert listener.until("message")["message"]["text"] == "hi"
    assert listener.until("close")["code"] == 1000
    assert listener.process.wait(PATIENCE_S) == 0
    assert server.post("/disconnect", {"conn_id": granted["conn_id"]}) is False


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_token_opens_a_stream_that_takes_commands(
    token_line: Line, token_server: RunningServer, listen: Listen, transport: str
) -> None:
    """On each transport, over a line that breaks, and with a fresh token when the first one expires."""
    line = token_line
    room = f"room.{uuid4().hex}"
    commands = [
        ["subscribe", [room]],
        ["publish", room, {"text": "own"}],
        ["publish", "other", 1],
        ["info", [room]],
    ]
    listener = listen(line.url, usesTokens=True, commands=commands, transports=[transport])
    listener.until("ask-token")
    granted = {each: ["room.*"] for each in ("subscribe", "publish", "presence")}
    listener.answer(token("js", life_s=27, **granted))
    assert listener.until("answer", name="subscribe")["result"]["channels"] == [room]
    assert listener.until("answer", name="info")["result"]["channels"][room]["users"] == ["js"]
    listener.until("ask-token")
    listener.answer(token("js", **granted))
    line.cut()
    listener.until("down")
    say(token_server, room, "during")
    line.mend()
    listener.until("message", message={"text": "during"})
    say(token_server, room, "last", last=True)
    listener.until("close")
    assert listener.texts() == ["own", "during", "last"]
    answers = {each["name"]: each.get("code") for each in listener.received if each["type"] == "answer"}
    assert answers == {"subscribe": None, "publish": "forbidden", "info": None}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_cut_line_loses_nothing(server: RunningServer, line: Line, listen: Listen, transport: str) -> None:
    """Messages from before, during and after it arrive once, in order, and the channel is reported as recovered."""
    channel = uuid4().hex
    listener = listen(line.url, connection=connection(server, channel), transports=[transport])
    listener.until("open")
    say(server, channel, "before")
    listener.until("message")
    line.cut()
    listener.until("down")
    say(server, channel, "during")
    line.mend()
    assert channel in listener.until("recovered")["channels"]
    listener.until("message")
    say(server, channel, "after")
    listener.until("message")
    assert listener.texts() == ["before", "during", "after"]
    assert not [event for event in listener.received if event["type"] == "lost"]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_long_message_comes_through_a_slow_line(
    server: RunningServer, line: Line, listen: Listen, transport: str
) -> None:
    """It takes longer than a line may be silent, and is not begun again."""
    channel = uuid4().hex
    granted = connection(server, channel)
    listener = listen(line.url, connection=granted, transports=[transport], silenceMs=800)
    listener.until("open")
    line.bytes_per_s = 40_000
    say(server, channel, "x" * 48_000)
    assert len(listener.until("message")["message"]["text"]) == 48_000


@pytest.mark.parametrize("trouble", ["blocked", "stalled"])
def test_it_falls_back_and_comes_up_again(
    server: RunningServer, line: Line, listen: Listen, trouble: str
) -> None:
    """Without WebSockets SSE is used, without SSE polls; and WebSockets again when they pass, with nothing lost."""
    channel = uuid4().hex
    setattr(line, trouble, (b"GET /ws", b"GET /sse"))
    listener = listen(line.url, connection=connection(server, channel), upgradeMs=500)
    listener.until("open", transport="poll")
    say(server, channel, "by poll")
    listener.until("message")
    setattr(line, trouble, (b"GET /ws",))
    listener.until("open", transport="sse")
    say(server, channel, "by sse")
    listener.until("message")
    setattr(line, trouble, ())
    listener.until("open", transport="websocket")
    say(server, channel, "by websocket")
    listener.until("message")
    assert listener.texts() == ["by poll", "by sse", "by websocket"]


@pytest.mark.parametrize(
    ("transport", "how"),
    [
        ("websocket", signal.SIGTERM),
        ("websocket", signal.SIGKILL),
        ("sse", signal.SIGTERM),
        ("poll", signal.SIGKILL),
    ],
)
def test_a_restart_is_survived(
    start_server: StartServer, port: str, listen: Listen, transport: str, how: signal.Signals
) -> None:
    """Stopped or killed, the server is found again; the application gives a connection and receives the losses."""
    server = start_server("-p", port, **SHORT_POLLS)
    granted = connection(server, "news")
    listener = listen(server.url, connection=granted, transports=[transport])
    listener.until("open")
    say(server, "news", "before")
    listener.until("message")
    server.process.send_signal(how)
    assert (listener.until("down")["code"] == 1012) == (how == signal.SIGTERM)
    server.process.communicate(timeout=PATIENCE_S)
    server = start_server("-p", port, **SHORT_POLLS)
    assert listener.until("ask")["expired"] == granted["conn_id"]
    listener.answer(connection(server, "news"))
    assert listener.until("lost")["channels"] == ["", "news"]
    listener.answer(server.post("/info", {"info": {"channels": ["news"], "include_users": True}}))
    say(server, "news", "after")
    listener.until("message")
    assert listener.texts() == ["before", "after"]
    assert [event["type"] for event in listener.received].count("lost") == 1


def test_a_new_connection_misses_nothing(start_server: StartServer, listen: Listen) -> None:
    """The application hands the last position to /connect, and messages published while there was no connection arrive."""
    server = start_server(CHANNELSTREAM_DETACH_GRACE_S="0")
    line = Line(server.port)
    granted = connection(server, "news")
    listener = listen(line.url, connection=granted, transports=["websocket"])
    listener.until("open")
    say(server, "news", "before")
    last = listener.until("message")["position"]
    line.cut()
    listener.until("down")
    eventually(lambda: members(server, "news") == [], "the connection has not expired")
    say(server, "news", "missed")
    line.mend()
    asked = listener.until("ask")
    assert (asked["expired"], asked["since"]) == (granted["conn_id"], last)
    listener.answer(connection(server, "news", since=asked["since"]))
    listener.until("message")
    say(server, "news", "after")
    listener.until("message")
    assert listener.texts() == ["before", "missed", "after"]
    assert not [event for event in listener.received if event["type"] == "lost"]
    line.close()


def members(server: RunningServer, channel: str) -> list[str]:
    answer = server.post("/info", {"info": {"channels": [channel], "include_users": True}})
    users: list[str] = answer["channels"][channel]["users"]
    return users


def test_the_roster_is_right_through_a_restart(start_server: StartServer, port: str, listen: Listen) -> None:
    """From the connection's answer and events alone; after a loss from what the application passes."""
    configs = {"channel_configs": {"room": {"notify_presence": True}}}
    server = start_server("-p", port, **SHORT_POLLS)
    ann = server.connect("ann", "room", **configs)
    listener = listen(server.url, connection=connection(server, "room", **configs))
    assert listener.until("roster")["users"] == ["ann", "js"]
    listener.until("open")
    server.connect("bob", "room")
    assert listener.until("roster")["users"] == ["ann", "bob", "js"]
    server.post("/disconnect", {"conn_id": ann})
    assert listener.until("roster")["users"] == ["bob", "js"]
    server.process.kill()
    server.process.communicate(timeout=PATIENCE_S)
    server = start_server("-p", port, **SHORT_POLLS)
    listener.until("ask")
    answer = connection(server, "room", **configs)
    server.connect("eve", "room")
    listener.answer(answer)
    assert listener.until("ask-info")["channels"] == ["room"]
    listener.answer(server.post("/info", {"info": {"channels": ["room"], "include_users": True}}))
    listener.until("roster", users=["eve", "js"])
