"""How much clients may do by commands, over real sockets: what is too much is refused, and counted."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from tests.conftest import ADMIN_SECRET, RunningServer, StartServer
from tests.http_client import http
from tests.token_client import SECRET, TokenClient, token

SLOW = "0.01"
"""A second: one at once, and the next one comes later than any test ends."""


class Room:
    """A server with one limit of its clients, and these."""

    def __init__(self, server: RunningServer, limit: str) -> None:
        self.server = server
        self._limit = limit
        self._exits = ExitStack()

    def client(self, user: str = "ann") -> TokenClient:
        """Return a further connection of a user."""
        found = TokenClient(self.server.ws_url, granted(user))
        return self._exits.enter_context(closing(found))

    def refused(self) -> float:
        """Return what was refused at the limit, as the metrics say."""
        auth = ("admin", ADMIN_SECRET)
        text = http.get(f"{self.server.url}/metrics", auth=auth).text
        start = f'channelstream_limited_total{{application="default",limit="{self._limit}",worker="0"}} '
        [line] = [line for line in text.splitlines() if line.startswith(start)]
        return float(line.removeprefix(start))

    def close(self) -> None:
        self._exits.close()


@pytest.fixture
def room(request: pytest.FixtureRequest, start_server: StartServer) -> Iterator[Room]:
    """Return a server with the limit that the test names."""
    limit: str = request.param
    option = f"CHANNELSTREAM_MAX_{limit.upper().removesuffix('S')}_RATE"
    server = start_server("-s", SECRET, CHANNELSTREAM_TOKEN_MAX_AGE_S="3600", **{option: SLOW})
    with closing(Room(server, limit)) as room:
        yield room


def granted(user: str) -> str:
    return token(user, channels=["room"], publish=["room"], history=["room"])


def publish(client: TokenClient, message: Any = 1) -> Any:
    return client.command("publish", channel="room", message=message)


def assert_refused(error: Any, text: str) -> None:
    assert (error["code"], error["message"]) == ("rate_limited", text)
    assert error["retry_after"] > 50


@pytest.mark.parametrize("room", ["connection_commands"], indirect=True)
def test_a_connection_sends_only_so_many_commands(room: Room) -> None:
    """Whatever they are. Another one of the same user sends its own."""
    client = room.client()
    assert "room" in str(client.command("info", channels=["room"]))
    assert_refused(publish(client), "A connection may send 0.01 commands in a second; send this one later.")
    assert client.command("unsubscribe", channels=["room"])["code"] == "rate_limited"
    assert "uuid" in publish(room.client())
    assert room.refused() == 2


@pytest.mark.parametrize("room", ["connection_commands"], indirect=True)
def test_commands_of_requests_count_for_the_connection(room: Room) -> None:
    """Those of `POST /client`, for a connection whose stream is one of events."""
    bearer = {"authorization": f"Bearer {granted('ann')}"}
    with http.stream("GET", f"{room.server.url}/sse", headers=bearer) as stream:
        lines = (line for line in stream.iter_lines() if line.startswith("data: [{"))
        [greeting] = [item for item in json.loads(next(lines)[6:]) if item["type"] == "reply"]
        url = f"{room.server.url}/client?conn_id={greeting['result']['conn_id']}"
        command = {"id": 1, "type": "publish", "channel": "room", "message": 1}
        first, second = http.post(url, json=[command, command], headers=bearer).json()
        [third] = http.post(url, json=command, headers=bearer).json()
    assert "uuid" in first["result"]
    assert {each["error"]["code"] for each in (second, third)} == {"rate_limited"}
    assert room.refused() == 2


@pytest.mark.parametrize("room", ["connection_bytes"], indirect=True)
def test_a_connection_publishes_only_so_many_bytes(room: Room) -> None:
    """A message of any size after a pause; then nothing until as many bytes have come."""
    client = room.client()
    assert "uuid" in publish(client, "x" * 100)
    assert_refused(
        publish(client), "A connection may publish 0.01 bytes in a second; send this message later."
    )
    assert "room" in str(client.command("info", channels=["room"]))
    assert "uuid" in publish(room.client())
    assert room.refused() == 1


@pytest.mark.parametrize("room", ["user_commands"], indirect=True)
def test_a_user_sends_only_so_many_commands(room: Room) -> None:
    """By all its connections together; another user sends its own."""
    assert "uuid" in publish(room.client())
    assert_refused(publish(room.client()), "A user may send 0.01 commands in a second; send this one later.")
    assert "uuid" in publish(room.client("bob"))
    assert room.refused() == 1


@pytest.mark.parametrize("room", ["user_messages"], indirect=True)
def test_a_user_publishes_only_so_many_messages(room: Room) -> None:
    """By all its connections together; other commands are none."""
    assert "uuid" in publish(room.client())
    again = room.client()
    assert_refused(publish(again), "A user may publish 0.01 messages in a second; send this one later.")
    assert "room" in str(again.command("info", channels=["room"]))
    assert "uuid" in publish(room.client("bob"))
    assert room.refused() == 1
