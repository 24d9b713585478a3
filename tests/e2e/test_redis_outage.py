"""A node whose Redis goes away: calls are refused, streams stay open, and afterwards every client is sent its losses."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.admin_pages import watched
from tests.conftest import SECRET
from tests.http_client import http
from tests.redis_server import RedisServer, redis_sentinels, running_redis
from tests.signing import signature
from tests.streams import next_items
from tests.waiting import PATIENCE_S, eventually
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path) as server:
        yield server


@pytest.fixture
def node(redis: RedisServer, start_server: Callable[..., Any]) -> Iterator[Any]:
    node = start_server("--engine", redis.address, "--engine-timeout-s", "3")
    yield node
    _, log = node.stop()
    assert "Traceback" not in log, log


def message(n: int) -> list[dict[str, Any]]:
    return [{"user": "app", "channel": "a", "message": {"n": n}, "uuid": f"00000000-0000-4000-8000-{n:012}"}]


def post_until_accepted(node: Any, n: int) -> None:
    """Send a message as an application should: again with the same uuid, as long as the answer is 503."""
    eventually(
        lambda: node.request("POST", "/message", message(n)).status_code == 200, "the message is refused"
    )


def received(stream: Any, count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        found += [item["message"]["n"] for item in next_items(stream) if item["type"] == "message"]
    return found


def resumed(stream: Any) -> Any:
    return next_items(stream)[0]


def test_while_redis_is_stopped_calls_are_refused(redis: RedisServer, node: Any) -> None:
    """With 503 and Retry-After; the open stream stays, and receives every message once when Redis continues."""
    conn_id = node.connect("ann", "a")
    with connect(f"{node.ws_url}/ws?conn_id={conn_id}&since=") as stream:
        assert resumed(stream)["type"] == "resumed"
        node.post("/message", message(1))
        redis.signal(signal.SIGSTOP)
        for path, body in (
            ("/message", message(2)),
            ("/connect", {"username": "bob"}),
            ("/subscribe", {"conn_id": conn_id, "channels": ["b"]}),
            ("/info", None),
        ):
            answer = node.request("POST", path, body)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), path
        with (
            connect(f"{node.ws_url}/ws?conn_id=another") as refused,
            pytest.raises(ConnectionClosed) as closed,
        ):
            refused.recv(PATIENCE_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        assert (probe := http.get(f"{node.url}/readyz")).status_code == 503, probe.text
        assert http.get(f"{node.url}/healthz").status_code == 200
        redis.signal(signal.SIGCONT)
        for n in (2, 3):
            post_until_accepted(node, n)
        assert http.get(f"{node.url}/readyz").status_code == 200
        assert received(stream, 3) == [1, 2, 3]


def test_a_call_is_not_repeated_after_redis_has_forgotten_it(
    redis: RedisServer, start_server: Callable[..., Any]
) -> None:
    """What was signed before Redis restarted is refused by nodes that have not answered it: some run, others start then."""
    body = json.dumps(message(1)).encode()
    headers = signature(SECRET, "POST", "/message", body, ahead_s=-5)

    def answer_of(server: Any) -> httpx.Response:
        return http.post(f"{server.url}/message", content=body, headers=headers)

    def start() -> Any:
        return start_server("--engine", redis.address, "--engine-timeout-s", "3")

    start()
    [log] = redis.cli("KEYS", "*}:log").split()
    assert int(redis.cli("HGET", log, "begun")) > 0
    redis.cli("HSET", log, "begun", "1")
    node, other = start(), start()
    assert [answer_of(each).status_code for each in (node, other)] == [200, 401]
    redis.kill()
    redis.start()
    post_until_accepted(other, 2)
    for each in (other, start()):
        again = answer_of(each)
        assert (again.status_code, int(again.headers["retry-after"]) >= 5) == (503, True), again.text


def test_while_redis_is_gone_the_overview_shows_its_own_node(redis: RedisServer, node: Any) -> None:
    """Its figures with the reason, its slow clients, and the requests that it refused."""
    node.connect("ann", "a")
    redis.kill()
    assert node.request("POST", "/message", message(1)).status_code == 503
    event = watched(node)
    assert event["failure"]
    assert [each["figures"]["connections"] for each in event["nodes"]] == [1]
    assert (event["figures"]["users"], event["figures"]["channels"]) == (None, None)
    slow, refused = (node.request("GET", f"/admin/data/{name}") for name in ("slow_clients", "refused"))
    assert (slow.status_code, slow.json()["rows"]) == (200, [])
    assert refused.status_code == 200
    assert [row["status"] for row in refused.json()["rows"] if row["route"] == "/message"] == [503]


@pytest.mark.parametrize("has_data", [True, False])
def test_after_a_restart_of_redis_clients_are_sent_their_losses(
    redis: RedisServer, node: Any, has_data: bool
) -> None:
    """Their streams are closed with 1012; they reconnect with the same conn_id, and continue from there."""
    conn_id = node.connect("ann", "a")
    with connect(f"{node.ws_url}/ws?conn_id={conn_id}&since=") as stream:
        resumed(stream)
        node.post("/message", message(1))
        position = next_items(stream)[0]["position"]
        if has_data:
            redis.cli("SAVE")
        redis.kill()
        assert node.request("POST", "/message", message(2)).status_code == 503
        redis.start()
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                stream.recv(PATIENCE_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
    with connect(f"{node.ws_url}/ws?conn_id={conn_id}&since={position}") as stream:
        assert resumed(stream)["lost"] == ["", "a"]
        post_until_accepted(node, 3)
        assert received(stream, 1) == [3]


@pytest.mark.parametrize("password", ["", "a-password"])
def test_a_node_follows_sentinels_to_the_next_master(
    tmp_path: Path, start_server: Callable[..., Any], password: str
) -> None:
    """Calls are refused meanwhile; the replica may lack what was acknowledged, so that clients are sent `lost`."""
    with redis_sentinels(tmp_path, password) as watched:
        node = start_server("--engine-timeout-s", "3", CHANNELSTREAM_ENGINE=watched.address)
        conn_id = node.connect("ann", "a")
        with connect(f"{node.ws_url}/ws?conn_id={conn_id}&since=") as stream:
            resumed(stream)
            node.post("/message", message(1))
            position = next_items(stream)[0]["position"]
            watched.master.kill()
            refused = node.request("POST", "/message", message(2))
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    stream.recv(PATIENCE_S)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
        assert "role:master" in watched.replica.cli("INFO", "replication")
        with connect(f"{node.ws_url}/ws?conn_id={conn_id}&since={position}") as stream:
            assert resumed(stream)["lost"] == ["", "a"]
            post_until_accepted(node, 3)
            assert received(stream, 1) == [3]
        _, log = node.stop()
    assert "Traceback" not in log, log
    assert "a-password" not in log
