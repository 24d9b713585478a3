"""Published messages reach every kind of subscriber, each a real client on a real socket, in order."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest
from tests.conftest import CLUSTER
from tests.http_client import http
from tests.waiting import PATIENCE_S
from websockets.sync.client import connect

pytestmark = pytest.mark.nodes(1, 3, CLUSTER)

Listen = Callable[[Any, str, int], list[Any]]


def by_websocket(server: Any, conn_id: str, count: int) -> list[Any]:
    """Listen by a WebSocket until so many messages have come."""
    with connect(f"{server.ws_url}/ws?conn_id={conn_id}") as stream:
        lists = (json.loads(stream.recv(PATIENCE_S)) for _ in iter(int, 1))
        return _messages(lists, count)


def by_event_stream(server: Any, conn_id: str, count: int) -> list[Any]:
    """Listen by server-sent events until so many messages have come."""
    with http.stream("GET", f"{server.url}/sse?conn_id={conn_id}") as stream:
        lists = (json.loads(line[5:]) for line in stream.iter_lines() if line.startswith("data:"))
        return _messages(lists, count)


def by_long_poll(server: Any, conn_id: str, count: int) -> list[Any]:
    """Listen by one long poll after the other until so many messages have come."""
    with httpx.Client(verify=False, timeout=PATIENCE_S) as client:
        url = f"{server.url}/listen?conn_id={conn_id}"
        lists = (client.get(url).json() for _ in iter(int, 1))
        return _messages(lists, count)


def _messages(lists: Iterator[list[Any]], count: int) -> list[Any]:
    found: list[Any] = []
    while len(found) < count:
        found += [item for item in next(lists) if item["type"] == "message"]
    return found


TRANSPORTS: list[Listen] = [by_websocket, by_event_stream, by_long_poll]


@pytest.fixture
def listeners(server: Any) -> Iterator[Callable[[str, int], list[Any]]]:
    """Start one listener of each transport in a channel; the results come in that order."""
    with ThreadPoolExecutor(len(TRANSPORTS)) as pool:

        def start(channel: str, count: int) -> list[Any]:
            ids = [server.connect(listen.__name__, channel) for listen in TRANSPORTS]
            return [
                pool.submit(listen, server, conn_id, count)
                for listen, conn_id in zip(TRANSPORTS, ids, strict=True)
            ]

        yield start


def test_one_message_reaches_every_transport(server: Any, listeners: Any) -> None:
    """One message posted once arrives as the same item by WebSocket, event stream and long poll."""
    channel = uuid4().hex
    results = listeners(channel, 1)
    [accepted] = server.post("/message", [{"user": "app", "channel": channel, "message": {"text": "hi"}}])
    for result in results:
        [received] = result.result(PATIENCE_S)
        assert (received["uuid"], received["channel"], received["user"]) == (accepted["uuid"], channel, "app")
        assert received["message"] == {"text": "hi"}


def test_many_messages_of_many_requests_keep_their_order(server: Any, listeners: Any) -> None:
    """Messages of one request, and of requests answered one after the other, arrive in that order everywhere."""
    channel = uuid4().hex
    results = listeners(channel, 400)
    for start in range(0, 400, 20):
        batch = [{"user": "app", "channel": channel, "message": {"n": n}} for n in range(start, start + 20)]
        server.post("/message", batch)
    for result in results:
        received = result.result(PATIENCE_S)
        assert [item["message"]["n"] for item in received] == list(range(400))


def test_a_private_message_reaches_its_user_only(server: Any) -> None:
    """A message for named users reaches their connections, and no others in the channel."""
    channel = uuid4().hex
    one, other = f"one-{channel}", f"other-{channel}"
    private = {"user": "app", "pm_users": [one], "message": {"text": "for one"}}
    public = {"user": "app", "channel": channel, "message": {"text": "for all"}}
    ids = [server.connect(user, channel) for user in (one, other)]
    server.post("/message", [private, public])
    # Of two shards, either may come first.
    assert {item["message"]["text"] for item in by_websocket(server, ids[0], 2)} == {"for one", "for all"}
    assert [item["message"]["text"] for item in by_websocket(server, ids[1], 1)] == ["for all"]
