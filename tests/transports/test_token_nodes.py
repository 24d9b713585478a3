"""Clients with tokens of a service of several nodes, and over restarts."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from tests.conftest import RunningServer, StartServer
from tests.http_client import http
from tests.redis_server import RedisServer
from tests.token_client import SECRET, TokenClient, token
from tests.waiting import PATIENCE_S, eventually

Pair = tuple[RunningServer, RunningServer]


def start_node(start: StartServer, engine: str) -> RunningServer:
    server = start("-s", SECRET, CHANNELSTREAM_ENGINE=engine, CHANNELSTREAM_TOKEN_MAX_AGE_S="3600")
    server.secret = SECRET
    return server


@pytest.fixture
def pair(redis: RedisServer, start_server: StartServer) -> Pair:
    """Two nodes that share a Redis."""
    return start_node(start_server, redis.address), start_node(start_server, redis.address)


def user_and_room() -> tuple[str, str]:
    """Names of their own for each test on the shared Redis."""
    return uuid4().hex, f"room.{uuid4().hex}"


def bearer(given: str) -> dict[str, str]:
    return {"authorization": f"Bearer {given}"}


def test_a_client_comes_back_at_another_node(pair: Pair) -> None:
    """To its connection, in the channels that it has joined there, without a gap."""
    here, there = pair
    user, room = user_and_room()
    given = token(user, channels=[room], subscribe=["room.*"])
    with closing(TokenClient(here.ws_url, given)) as client:
        client.command("subscribe", channels=[f"{room}x"])
        here.post("/message", {"user": "x", "channel": room, "message": 1})
        position = client.until(lambda item: item["type"] == "message")["position"]
        there.post("/message", {"user": "x", "channel": f"{room}x", "message": 2})
        conn_id = client.greeting["conn_id"]
        with closing(TokenClient(there.ws_url, given, conn_id=conn_id, since=position)) as again:
            assert again.greeting["conn_id"] == conn_id
            assert again.greeting["channels"] == [room, f"{room}x"]
            assert again.message() == 2
            assert again.command("subscribe", channels=["other"])["code"] == "forbidden"


def test_commands_of_an_event_stream_are_answered_by_every_node(pair: Pair) -> None:
    """They are carried out where the stream is: a fresh token too."""
    here, there = pair
    user, room = user_and_room()
    headers = bearer(token(user, subscribe=["room.*"], life_s=60))
    with http.stream("GET", f"{here.url}/sse", headers=headers) as stream:
        lines = (line for line in stream.iter_lines() if line.startswith("data:"))
        greeting = next(line for line in lines if "conn_id" in line)
        conn_id = greeting.partition('"conn_id":"')[2].partition('"')[0]
        url = f"{there.url}/client?conn_id={conn_id}"
        commands: list[dict[str, Any]] = [
            {"id": 1, "type": "subscribe", "channels": [room]},
            {"id": 2, "type": "publish", "channel": room, "message": 1},
            {"id": 3, "type": "refresh", "token": token(user, subscribe=["**"])},
        ]
        answers = http.post(url, json=commands, headers=headers).json()
        assert answers[0]["result"]["channels"] == [room]
        assert answers[1]["error"]["code"] == "forbidden"
        assert answers[2]["result"]["expires_in"] > 500
        there.post("/message", {"user": "x", "channel": room, "message": "hi"})
        assert next(line for line in lines if '"hi"' in line)
        stranger = http.post(url, json=commands, headers=bearer(token("bob")))
        unknown = http.post(f"{there.url}/client?conn_id=unknown", json=commands, headers=headers)
        for answer in (stranger, unknown):
            assert (answer.status_code, answer.json()["close_code"]) == (401, 4001)


def test_what_a_request_has_missed_is_lost_with_its_stream_at_another_node_too(pair: Pair) -> None:
    """A client whose line is lost comes back anywhere, and nobody knows whether the older events have come."""
    here, there = pair
    user, room = user_and_room()
    headers = bearer(token(user, channels=[room], subscribe=["room.*"]))
    here.post("/channel_config", {f"{room}x": {}})
    before = here.post("/info", {"channels": [f"{room}x"]})["position"]
    here.post("/message", {"user": "x", "channel": f"{room}x", "message": "old"})
    with http.stream("GET", f"{here.url}/sse", headers=headers) as stream:
        items = items_of(stream)
        conn_id = next(items)["result"]["conn_id"]
        here.post("/message", {"user": "x", "channel": room, "message": "newer"})
        position = next(each for each in items if each["type"] == "message")["position"]
        url = f"{here.url}/client?conn_id={conn_id}"
        command = {"id": 1, "type": "subscribe", "channels": [f"{room}x"], "since": {f"{room}x": before}}
        done = http.post(url, json=command, headers=headers).json()[0]["result"]
        assert done["recovered"] == [f"{room}x"]
    query = {"conn_id": conn_id, "since": position}
    with http.stream("GET", f"{there.url}/sse", params=query, headers=headers) as stream:
        resumed = next(each for each in items_of(stream) if each["type"] == "resumed")
    assert resumed["lost"] == [f"{room}x"]


def items_of(stream: httpx.Response) -> Iterator[Any]:
    for line in stream.iter_lines():
        if line.startswith("data:"):
            yield from json.loads(line[5:])


def ends(clients: list[TokenClient]) -> list[tuple[int, str]]:
    return [client.end() for client in clients]


def test_a_revocation_counts_at_all_nodes(pair: Pair) -> None:
    """Connections end, tokens issued before are refused, later ones are not; other users' are not concerned."""
    here, there = pair
    user, _ = user_and_room()
    old = [token(user, iat=time.time() - 10), token(user, jti=user, iat=None)]
    with ExitStack() as stack:
        clients = [
            stack.enter_context(closing(TokenClient(node.ws_url, each))) for node in pair for each in old
        ]
        other = stack.enter_context(closing(TokenClient(there.ws_url, token(f"{user}x"))))
        fresh = stack.enter_context(closing(TokenClient(there.ws_url, token(user, iat=time.time() + 30))))
        assert here.post("/revoke", {"user": user}) == {"ended": len(clients)}
        assert ends(clients) == [(4003, "token revoked")] * len(clients)
        for client in (other, fresh):
            assert client.command("unsubscribe", channels=["a"])["channels"] == []
    for node in pair:
        for each in old:
            answer = http.get(f"{node.url}/sse", headers=bearer(each))
            assert (answer.status_code, answer.json()["close_code"]) == (401, 4003)


def test_one_token_is_revoked_by_its_name(pair: Pair) -> None:
    """The other tokens of its user are not."""
    here, there = pair
    user, _ = user_and_room()
    with (
        closing(TokenClient(there.ws_url, token(user, jti=f"{user}-1"))) as one,
        closing(TokenClient(there.ws_url, token(user, jti=f"{user}-2"))) as other,
    ):
        assert here.post("/revoke", {"jti": f"{user}-1"}) == {"ended": 1}
        assert one.end() == (4003, "token revoked")
        assert other.command("unsubscribe", channels=["a"])["channels"] == []


@pytest.mark.parametrize("engine", ["sqlite", "redis"])
def test_a_revocation_outlives_a_restart(
    redis: RedisServer, tmp_path: Path, start_server: StartServer, engine: str
) -> None:
    """Where the engine keeps anything."""
    user, _ = user_and_room()
    address = redis.address if engine == "redis" else f"sqlite:///{tmp_path}/file"
    first = start_node(start_server, address)
    given = token(user)
    first.post("/revoke", {"user": user})
    first.process.kill()
    first.process.wait(PATIENCE_S)
    second = start_node(start_server, address)
    assert http.get(f"{second.url}/listen", headers=bearer(given)).json()["code"] == "bad_token"


def test_a_revocation_outlives_a_redis_that_loses_it(
    pair: Pair, redis: RedisServer, start_server: StartServer
) -> None:
    """As one whose replica takes over and lacks it: the nodes that know it write it again, and another one reads it."""
    here, _ = pair
    user, _ = user_and_room()
    given = token(user)
    here.post("/revoke", {"user": user})
    redis.cli("FLUSHALL")
    eventually(lambda: "revocations" in redis.cli("KEYS", "*"), "no node writes it again")
    third = start_node(start_server, redis.address)
    assert http.get(f"{third.url}/listen", headers=bearer(given)).json()["code"] == "bad_token"


@pytest.mark.parametrize("body", [{}, {"user": "a", "jti": "b"}, {"jti": ""}, {"user": 5}])
def test_a_revocation_names_a_user_or_a_token(start_server: StartServer, body: dict[str, Any]) -> None:
    """One of both."""
    server = start_node(start_server, "memory")
    assert server.request("POST", "/revoke", body).status_code == 422
