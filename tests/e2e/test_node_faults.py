"""One of two nodes is cut off from Redis, is stopped, or has a wrong clock: the others' clients receive all."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.e2e.clocks import shifted_clock
from tests.http_client import http
from tests.redis_server import RedisServer, running_redis
from tests.stoppable_line import StoppableLine
from tests.streams import next_items
from tests.waiting import PATIENCE_S, eventually
from websockets.sync.client import connect

FLAGS = ("--node-lease-s", "6", "--engine-timeout-s", "3")
"""The lease is longer than a node waits for the answer of another that is cut off; both are long on a slow machine, too."""
OTHERS = 120
"""Connections that a node registers again after an outage: enough that a client reconnects meanwhile."""
NEXT_CALL_S = 0.01
"""Between two calls of that client."""


class Listener:
    """A WebSocket client of one node, which reconnects with its position as the server asks."""

    def __init__(self, node: Any, stack: ExitStack, user: str, **more: Any) -> None:
        self.conn_id = node.connect(user, "a", **more)
        self._url = f"{node.ws_url}/ws?conn_id={self.conn_id}&since="
        self._stack = stack
        self._items: list[Any] = []
        self.position = ""
        self._open()

    def _open(self) -> None:
        self._stream = self._stack.enter_context(connect(self._url + self.position, close_timeout=1))
        assert self.next("resumed")["lost"] == []

    def next(self, kind: str) -> Any:
        """Return the next item of a type; others are kept for their own turn."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := [item for item in self._items if item["type"] == kind]):
            assert time.monotonic() < deadline, f"no {kind}"
            self._receive()
        self._items.remove(found[0])
        return found[0]

    def _receive(self) -> None:
        items = next_items(self._stream)
        self._items += items
        self.position = next((item["position"] for item in items[::-1] if "position" in item), self.position)

    def texts(self, count: int) -> list[int]:
        return [self.next("message")["message"]["n"] for _ in range(count)]

    def presence(self) -> tuple[str, str]:
        item = self.next("presence")
        return item["user"], item["message"]["action"]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def line(redis: RedisServer) -> Iterator[StoppableLine]:
    line = StoppableLine(redis.socket)
    yield line
    line.close()


@pytest.fixture
def healthy(redis: RedisServer, start_server: Callable[..., Any]) -> Any:
    return start_server("--engine", redis.address, *FLAGS)


def attempt(node: Any, n: int) -> Any:
    uuid = f"00000000-0000-4000-8000-{n:012}"
    body = [{"user": "app", "channel": "a", "message": {"n": n}, "uuid": uuid}]
    return node.request("POST", "/message", body)


def post(node: Any, n: int) -> None:
    """Send a message as an application should: again with the same uuid, as long as the answer is 503."""
    eventually(lambda: attempt(node, n).status_code == 200, "the message is refused")


def watcher_of(node: Any, stack: ExitStack) -> Listener:
    return Listener(node, stack, "watcher", channel_configs={"a": {"notify_presence": True}})


def test_a_node_that_is_cut_off_catches_up(
    healthy: Any, line: StoppableLine, start_server: Callable[..., Any]
) -> None:
    """It refuses calls; its users leave once and join once again, and its clients miss nothing."""
    cut_off = start_server("--engine", f"redis://127.0.0.1:{line.port}/0", *FLAGS)
    with ExitStack() as stack:
        watcher = watcher_of(healthy, stack)
        ann = Listener(cut_off, stack, "ann")
        assert watcher.presence() == ("ann", "joined")
        post(healthy, 1)
        line.cut()
        refused = attempt(cut_off, 2)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert watcher.presence() == ("ann", "parted")
        post(healthy, 2)
        line.mend()
        assert watcher.presence() == ("ann", "joined")
        post(cut_off, 3)
        assert ann.texts(3) == [1, 2, 3]
        assert watcher.texts(3) == [1, 2, 3]


def test_a_call_that_a_node_gave_up_is_not_executed_later(
    healthy: Any, line: StoppableLine, start_server: Callable[..., Any]
) -> None:
    """A client was refused by a node that was cut off; the pending command of that node does not end its stream later."""
    cut_off = start_server("--engine", f"redis://127.0.0.1:{line.port}/0", *FLAGS)
    with ExitStack() as stack:
        ann = Listener(healthy, stack, "ann")
        line.cut()
        refused = http.get(f"{cut_off.url}/listen?conn_id={ann.conn_id}&since=")
        assert refused.status_code == 503
        line.mend()
        post(cut_off, 1)
        post(healthy, 2)
        assert ann.texts(2) == [1, 2]


def test_a_client_that_returns_to_a_cut_off_node_stays(
    redis: RedisServer, line: StoppableLine, start_server: Callable[..., Any]
) -> None:
    """It had been at another node meanwhile, but no newer stream replaces this one: it is never asked to stop."""
    healthy, cut_off = (
        start_server("--engine", address, *FLAGS, "--poll-timeout-s", "2")
        for address in (redis.address, f"redis://127.0.0.1:{line.port}/0")
    )
    with httpx.Client(verify=False, timeout=PATIENCE_S) as http:
        for n in range(OTHERS):
            body = {"username": f"user-{n}", "channels": ["a"]}
            made = http.post(cut_off.url + "/connect", json=body, headers=cut_off.sign("/connect"))
            assert made.status_code == 200
        # The last that the node registers again when it is back.
        conn_id = cut_off.connect("ann", "a", conn_id="~")
        line.cut()
        moved = http.get(f"{healthy.url}/listen?conn_id={conn_id}&since=").json()
        wait_for_users(healthy, ["ann"])
        line.mend()
        poll = f"{cut_off.url}/listen?conn_id={conn_id}&since={moved[-1]['position']}"
        answers: list[httpx.Response] = []

        def is_answered() -> bool:
            answers.append(http.get(poll))
            return answers[-1].status_code != 503

        eventually(is_answered, "the node does not come back", longest_pause_s=NEXT_CALL_S)
        assert answers[-1].status_code == 200, answers[-1].text


def wait_for_users(node: Any, users: list[str]) -> None:
    """Wait until these, and no others, are in the channel."""

    def are_there() -> bool:
        found: list[str] = node.post("/info", {"info": {"channels": ["a"]}})["channels"]["a"]["users"]
        return found == users

    eventually(are_there, f"not {users} are in the channel")


def test_a_node_that_was_stopped_catches_up(
    redis: RedisServer, healthy: Any, start_server: Callable[..., Any]
) -> None:
    """For longer than its lease: its users leave once, join once again, and its clients miss nothing."""
    stopped = start_server("--engine", redis.address, *FLAGS)
    with ExitStack() as stack:
        watcher = watcher_of(healthy, stack)
        ann = Listener(stopped, stack, "ann")
        assert watcher.presence() == ("ann", "joined")
        stopped.process.send_signal(signal.SIGSTOP)
        try:
            assert watcher.presence() == ("ann", "parted")
            for n in range(20):
                post(healthy, n)
        finally:
            stopped.process.send_signal(signal.SIGCONT)
        assert watcher.presence() == ("ann", "joined")
        post(stopped, 20)
        assert ann.texts(21) == list(range(21))
        assert watcher.texts(21) == list(range(21))


def test_a_clock_an_hour_ahead_changes_nothing(
    redis: RedisServer, healthy: Any, start_server: Callable[..., Any], tmp_path: Path
) -> None:
    """Times come from Redis: no node is taken for dead, and no entry for expired, at either node."""
    ahead = start_server(
        "--engine",
        redis.address,
        *FLAGS,
        "--validate-requests",
        "false",
        "--log-age-s",
        "60",
        **shifted_clock(tmp_path, 1),
    )
    with ExitStack() as stack:
        watcher = watcher_of(healthy, stack)
        listener = Listener(ahead, stack, "ann")
        assert watcher.presence() == ("ann", "joined")
        for n in range(10):
            post((healthy, ahead)[n % 2], n)
        first = listener.next("message")["position"]
        assert listener.texts(9) == list(range(1, 10))
        assert watcher.texts(10) == list(range(10))
        for node in (ahead, healthy):
            about = node.post("/info", {"info": {"channels": ["a"]}})["channels"]["a"]
            assert about["users"] == ["ann", "watcher"]
        with connect(
            f"{ahead.ws_url}/ws?conn_id={healthy.connect('bob', 'a', since=first)}&since={first}"
        ) as stream:
            assert next_items(stream)[0]["recovered"] == ["a"]
