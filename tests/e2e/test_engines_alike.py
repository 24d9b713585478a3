"""Servers on the three engines are made the same calls, drawn at random, and answer and send the same.

`ALIKE_SEED` draws other calls. What differs by itself is left out: positions, times and ids that a server makes, and the
order of events that one call causes in several channels.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

import pytest
from tests.conftest import RunningServer, launch
from tests.e2e.drawn_calls import NO_POSITION, UNREADABLE, Call, Draw, Open, Poll, Read, Step
from tests.redis_server import running_redis
from tests.waiting import PATIENCE_S
from websockets.sync.client import ClientConnection, connect

pytestmark = pytest.mark.slow

STEPS = 150
SEEDS = [int(text) for text in os.environ.get("ALIKE_SEED", "1 2").split()]
TIME = re.compile(r"(?!2020)\d{4}-\d\d-\d\dT[\d:.]{15}")
MADE_ID = re.compile(r"(?!0{8})[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
CAUSED = ("presence", "join", "part", "user_state_change")
"""Events that a call causes in each channel of a user."""


class Side:
    """One server, and its clients."""

    def __init__(self, server: RunningServer, streams: ExitStack) -> None:
        """Create it with a stack that closes the streams."""
        self._server = server
        self._closing = streams
        self._streams: dict[str, ClientConnection] = {}
        self._unread: dict[str, list[Any]] = {}
        self._positions: list[str] = []

    def play(self, step: Step) -> Any:
        """Make a step; return what the server has answered and sent."""
        match step:
            case Call(method, path, body):
                response = self._server.request(method, path, self._given(body))
                return response.status_code, alike(response.json())
            case Open(conn_id, since):
                return self._open(conn_id, since)
            case Poll(conn_id, user, uuid, since):
                self._mark(user, uuid)
                url = f"/listen?conn_id={conn_id}&since={quote(self._position(since))}"
                return self._received(self._server.request("GET", url).json())
            case Read(conn_id, user, uuid):
                self._mark(user, uuid)
                return self._read(conn_id, uuid)

    def _mark(self, user: str, uuid: str) -> None:
        self._server.post("/message", {"user": "sys", "pm_users": [user], "uuid": uuid})

    def _open(self, conn_id: str, since: int) -> None:
        url = f"{self._server.ws_url}/ws?conn_id={conn_id}&since={quote(self._position(since))}"
        stream = self._closing.enter_context(connect(url, compression=None, ping_interval=None))
        self._streams[conn_id] = stream
        # Until then a message may be among what the server reports as lost.
        self._unread[conn_id] = json.loads(stream.recv(PATIENCE_S))

    def _read(self, conn_id: str, uuid: str) -> Any:
        """Return what a stream is sent up to the message with this uuid."""
        items = self._unread.pop(conn_id, [])
        while not any(item.get("uuid") == uuid for item in items):
            items += json.loads(self._streams[conn_id].recv(PATIENCE_S))
        return self._received(items)

    def _received(self, items: list[Any]) -> Any:
        """Return items, and keep the positions of messages, which are in the same order at every server."""
        self._positions += [item["position"] for item in items if item["type"].startswith("message")]
        return alike(items)

    def _given(self, body: Any) -> Any:
        if not (isinstance(body, dict) and "since" in body):
            return body
        return {**body, "since": self._position(body["since"])}

    def _position(self, since: int) -> str:
        if since == UNREADABLE:
            return "unreadable"
        latest = self._positions[-50:]
        return "" if since == NO_POSITION or not latest else latest[since * len(latest) // 1000]


def alike(value: Any) -> Any:
    """Return an answer, or what a client was sent, without what differs between servers."""
    match value:
        case dict():
            return {key: alike(each) for key, each in value.items() if key != "position"}
        case [{"type": _}, *_]:
            return list(in_order(map(alike, value)))
        case list():
            return list(map(alike, value))
        case str():
            return MADE_ID.sub("made", TIME.sub("now", value))
    return value


def in_order(items: Iterable[Any]) -> Iterator[Any]:
    """Yield items, those in a row that one call may have caused by their texts."""
    for is_caused, row in groupby(items, lambda item: item["type"] in CAUSED):
        found = list(row)
        yield from sorted(found, key=json.dumps) if is_caused else found


@pytest.fixture
def sides(tmp_path: Path) -> Iterator[dict[str, Side]]:
    with running_redis(tmp_path) as redis, ExitStack() as stack:
        engines = {"memory": "memory", "sqlite": f"sqlite:///{tmp_path / 'log.db'}", "redis": redis.address}
        sides = {}
        for name, address in engines.items():
            server = launch("--engine", address)
            stack.callback(server.stop)
            sides[name] = Side(server, stack)
        yield sides


@pytest.mark.parametrize("seed", SEEDS)
def test_all_engines_answer_and_send_the_same(sides: dict[str, Side], seed: int) -> None:
    """Each step has the same answer at each server, and each client is sent the same in the same order."""
    for number, step in enumerate(Draw(Random(seed)).steps(STEPS)):
        expected, *others = (side.play(step) for side in sides.values())
        for name, shown in zip(list(sides)[1:], others, strict=True):
            assert shown == expected, f"{name} differs from memory in step {number} of {seed}: {step}"
