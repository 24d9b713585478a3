"""Three nodes on one Redis behave as one server: requests and streams land anywhere."""

import json
import random
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import pytest
from tests.conftest import launch
from tests.http_client import http
from tests.redis_server import RedisServer
from tests.streams import next_items
from tests.waiting import PATIENCE_S
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

pytestmark = pytest.mark.slow

SEED = 20_261_124
"""Of the choice of nodes: a failure can be repeated."""


class Cluster:
    """Nodes, of which any serves any call."""

    def __init__(self, nodes: list[Any]) -> None:
        self.nodes = nodes
        self._random = random.Random(SEED)
        self._open = ExitStack()

    @property
    def any(self) -> Any:
        return self._random.choice(self.nodes)

    def post(self, path: str, payload: Any = None) -> Any:
        return self.any.post(path, payload)

    def info(self, *channels: str, **options: Any) -> Any:
        return self.post("/info", {"info": {"channels": list(channels), **options}})["channels"]

    def connect(self, user: str, *channels: str, **more: Any) -> str:
        conn_id: str = self.any.connect(user, *channels, **more)
        return conn_id

    def listen(self, conn_id: str, since: str | None = None, at: Any = None) -> "Listener":
        query = f"conn_id={conn_id}" + ("" if since is None else f"&since={since}")
        opening = connect(f"{(at or self.any).ws_url}/ws?{query}", open_timeout=PATIENCE_S, close_timeout=1)
        return Listener(self._open.enter_context(opening))

    def close(self) -> None:
        self._open.close()


class Listener:
    """One WebSocket; heartbeats are skipped."""

    def __init__(self, stream: ClientConnection) -> None:
        self.stream = stream
        self._items: list[Any] = []

    def next(self, kind: str) -> Any:
        """Return the next item of a type; others before it are skipped."""
        while True:
            while self._items:
                item = self._items.pop(0)
                if item["type"] == kind:
                    return item
            self._items = next_items(self.stream)

    def texts(self, count: int) -> list[Any]:
        return [self.next("message")["message"]["n"] for _ in range(count)]

    def close_code(self) -> int | None:
        try:
            while True:
                self.stream.recv(PATIENCE_S)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None


def node_of(redis: RedisServer) -> Any:
    return launch("--engine", redis.address, "--node-lease-s", "3")


@pytest.fixture(scope="module")
def nodes(redis: RedisServer) -> Iterator[list[Any]]:
    """Three nodes for all tests of this module; none of them may log a traceback."""
    nodes = [node_of(redis) for _ in range(3)]
    yield nodes
    for node in nodes:
        _, log = node.stop()
        assert "Traceback" not in log, log


@pytest.fixture
def cluster(nodes: list[Any]) -> Iterator[Cluster]:
    cluster = Cluster(nodes)
    yield cluster
    cluster.close()


@pytest.fixture
def dying(redis: RedisServer, nodes: list[Any]) -> Iterator[Any]:
    """One node more, to be killed."""
    node = node_of(redis)
    yield node
    node.process.kill()
    node.process.stdout.close()


@pytest.fixture
def channel() -> str:
    return uuid4().hex


def say(channel: str | None, n: int, **more: Any) -> list[dict[str, Any]]:
    return [{"user": "app", "channel": channel, "message": {"n": n}, **more}]


def test_any_node_serves_any_call(cluster: Cluster, channel: str) -> None:
    """Messages of every node reach streams at every node, in the order in which they were answered."""
    streams = [
        cluster.listen(cluster.connect(f"u{number}", channel), at=node)
        for number, node in enumerate([*cluster.nodes, *cluster.nodes])
    ]
    for n in range(60):
        cluster.post("/message", say(channel, n))
    for stream in streams:
        assert stream.texts(60) == list(range(60))


def test_a_connection_is_changed_from_any_node(cluster: Cluster, channel: str) -> None:
    """Subscribed, unsubscribed, connected again and disconnected wherever the call lands."""
    here, *others = cluster.nodes
    conn_id = here.connect("ann", channel)
    stream = cluster.listen(conn_id, at=here)
    answer = others[0].post("/subscribe", {"conn_id": conn_id, "channels": [f"{channel}-2", channel]})
    assert (answer["subscribed_to"], answer["channels"]) == ([f"{channel}-2"], [channel, f"{channel}-2"])
    others[1].post("/message", say(f"{channel}-2", 1))
    assert stream.texts(1) == [1]
    answer = others[1].post("/unsubscribe", {"conn_id": conn_id, "channels": [channel]})
    assert (answer["unsubscribed_from"], answer["channels"]) == ([channel], [f"{channel}-2"])
    again = {"username": "ann", "conn_id": conn_id, "channels": [f"{channel}-3"], "user_state": {"mood": 1}}
    answer = others[0].post("/connect", again)
    assert (answer["channels"], answer["state"]) == ([f"{channel}-2", f"{channel}-3"], {"mood": 1})
    refused = others[0].request("POST", "/connect", again | {"username": "bob"})
    assert (refused.status_code, "conn_id" in refused.json()) == (422, True)
    assert others[1].post("/disconnect", {"conn_id": conn_id}) is True
    assert stream.close_code() == 1000
    assert others[0].post("/disconnect", {"conn_id": conn_id}) is False
    assert cluster.info(f"{channel}-3")[f"{channel}-3"]["total_connections"] == 0


def test_every_node_answers_the_same(cluster: Cluster, channel: str) -> None:
    """Settings, members with their connections, state and history."""
    config = {channel: {"store_history": True, "history_size": 5}}
    cluster.post("/channel_config", config)
    ids = sorted(node.connect(f"u{number}", channel) for number, node in enumerate(cluster.nodes))
    cluster.post("/user_state", {"user": "u1", "user_state": {"mood": "fine"}, "state_public_keys": ["mood"]})
    [sent] = cluster.post("/message", say(channel, 1))
    cluster.post("/message", say(channel, 2, uuid=str(uuid4())))
    edited = [{"uuid": sent["uuid"], "channel": channel, "message": {"n": 10}}]
    assert [item["found"] for item in cluster.any.request("PATCH", "/message", edited).json()] == [True]
    for node in cluster.nodes:
        answer = node.post("/info", {"info": {"channels": [channel], "include_connections": True}})
        about = answer["channels"][channel]
        assert about["connections"] == ids
        assert (about["users"], about["total_connections"]) == (["u0", "u1", "u2"], 3)
        assert [item["message"]["n"] for item in about["history"]] == [10, 2]
        assert {"user": "u1", "state": {"mood": "fine"}} in answer["users"]
        seed = node.post("/info", {"channels": [channel]})["channels"][channel]["users"]
        assert sorted(conn for user in seed for conn in user["connections"]) == ids


def test_presence_state_and_private_messages_cross_nodes(cluster: Cluster, channel: str) -> None:
    """A user joins with its first connection at any node and leaves with its last; private messages reach it anywhere."""
    here, there, _ = cluster.nodes
    config = {channel: {"notify_presence": True, "notify_state": True}}
    watcher = cluster.listen(here.connect("watcher", channel, channel_configs=config), at=here)
    first = there.connect("bob", channel)
    second = here.connect("bob", channel)
    joined = watcher.next("presence")
    assert (joined["user"], joined["message"]["action"]) == ("bob", "joined")
    streams = [cluster.listen(first, at=there), cluster.listen(second, at=here)]
    cluster.post("/message", say(None, 7, pm_users=["bob"]))
    assert [stream.texts(1) for stream in streams] == [[7], [7]]
    state = {"user": "bob", "user_state": {"mood": 1}, "state_public_keys": ["mood"]}
    cluster.post("/user_state", state)
    assert watcher.next("user_state_change")["message"]["state"] == {"mood": 1}
    cluster.post("/disconnect", {"conn_id": first})
    cluster.post("/disconnect", {"conn_id": second})
    cluster.post("/message", say(channel, 8))
    parted = watcher.next("presence")
    assert (parted["user"], parted["message"]["action"]) == ("bob", "parted")
    assert watcher.texts(1) == [8]


def test_a_message_repeated_at_another_node_is_delivered_once(cluster: Cluster, channel: str) -> None:
    """The same uuid is one message, whichever nodes it was sent to."""
    stream = cluster.listen(cluster.connect("ann", channel))
    uuid = str(uuid4())
    for node in cluster.nodes:
        node.post("/message", say(channel, 1, uuid=uuid))
    cluster.post("/message", say(channel, 2))
    assert stream.texts(2) == [1, 2]


def test_a_stream_opens_at_a_node_that_did_not_register_it(cluster: Cluster, channel: str) -> None:
    """By WebSocket, event stream and long poll; earlier messages are caught up."""
    for kind in ("ws", "sse", "listen"):
        conn_id = cluster.nodes[0].connect(f"{kind}-user", channel)
        cluster.post("/message", say(channel, 1))
        if kind == "ws":
            assert cluster.listen(conn_id, at=cluster.nodes[1]).texts(1) == [1]
        elif kind == "listen":
            [received] = http.get(f"{cluster.nodes[1].url}/listen?conn_id={conn_id}").json()
            assert received["message"] == {"n": 1}
        else:
            with http.stream("GET", f"{cluster.nodes[1].url}/sse?conn_id={conn_id}") as sse:
                blocks = (json.loads(line[5:]) for line in sse.iter_lines() if line.startswith("data:"))
                assert next(block for block in blocks if block)[0]["message"] == {"n": 1}


def test_a_stream_that_moves_closes_the_older_one(cluster: Cluster, channel: str) -> None:
    """The newer stream wins across nodes, and resumes without gap or duplicate."""
    conn_id = cluster.nodes[0].connect("ann", channel)
    older = cluster.listen(conn_id, "", at=cluster.nodes[0])
    older.next("resumed")
    cluster.post("/message", say(channel, 1))
    position = older.next("message")["position"]
    cluster.post("/message", say(channel, 2))
    newer = cluster.listen(conn_id, position, at=cluster.nodes[1])
    assert newer.next("resumed")["recovered"] == ["", channel]
    cluster.post("/message", say(channel, 3))
    assert newer.texts(2) == [2, 3]
    assert older.close_code() == 4002


def test_polls_may_land_at_any_node(cluster: Cluster, channel: str) -> None:
    """Each of them continues where the one before ended, without `since`."""
    conn_id = cluster.connect("ann", channel)
    received: list[int] = []
    for n in range(12):
        cluster.post("/message", say(channel, n))
        node = cluster.nodes[n % 3]
        items = http.get(f"{node.url}/listen?conn_id={conn_id}").json()
        received += [item["message"]["n"] for item in items]
    assert received == list(range(12))


def test_a_client_of_a_killed_node_resumes_elsewhere(cluster: Cluster, dying: Any, channel: str) -> None:
    """At once and with its conn_id; it misses nothing, receives nothing twice, and no leave is announced."""
    others = cluster.nodes
    config = {channel: {"notify_presence": True}}
    watcher = cluster.listen(others[0].connect("watcher", channel, channel_configs=config), at=others[0])
    conn_id = dying.connect("ann", channel)
    assert watcher.next("presence")["user"] == "ann"
    stream = cluster.listen(conn_id, "", at=dying)
    stream.next("resumed")  # From here on: what was published before is not sent.
    others[0].post("/message", say(channel, 1))
    position = stream.next("message")["position"]
    dying.process.kill()
    others[1].post("/message", say(channel, 2))
    stream = cluster.listen(conn_id, position, at=others[1])
    assert stream.next("resumed")["lost"] == []
    others[0].post("/message", say(channel, 3))
    assert stream.texts(2) == [2, 3]
    others[1].post("/disconnect", {"conn_id": conn_id})
    parted = watcher.next("presence")
    assert (parted["user"], parted["message"]["action"]) == ("ann", "parted")


def test_the_users_of_a_killed_node_leave_once(cluster: Cluster, dying: Any, channel: str) -> None:
    """After its lease, once, whichever living node does it."""
    others = cluster.nodes
    config = {channel: {"notify_presence": True}}
    watcher = cluster.listen(others[0].connect("watcher", channel, channel_configs=config), at=others[0])
    for user in ("ann", "bob"):
        dying.connect(user, channel)
        dying.connect(user, channel)
    joined = [watcher.next("presence")["user"] for _ in range(2)]
    dying.process.kill()
    parted = [watcher.next("presence") for _ in range(2)]
    assert [item["message"]["action"] for item in parted] == ["parted", "parted"]
    assert sorted(item["user"] for item in parted) == sorted(joined) == ["ann", "bob"]
    others[1].post("/message", say(channel, 1))
    assert watcher.texts(1) == [1]
    assert others[1].post("/info", {"info": {"channels": [channel]}})["channels"][channel]["users"] == [
        "watcher"
    ]
