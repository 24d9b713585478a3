"""Members of Pusher's presence channels, whatever happens to their lines and to their server."""

import asyncio
import json
import os
import signal
import socket
import struct
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest
import websockets
from tests.conftest import CLUSTER, SQLITE, StartServer
from tests.pusher_calls import KIT, done
from tests.pusher_client import PusherClient, address, line
from tests.waiting import PATIENCE_S, eventually

from channelstream.config import Settings
from channelstream.core.pusher_signing import channel_text, signature
from channelstream.upgrade.control import ask_to_upgrade

HALL = "presence-hall"


@pytest.fixture(params=["memory", "sqlite", "redis"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        address: str = request.getfixturevalue("redis").address
        return address
    return {"memory": "memory", "sqlite": f"sqlite:///{tmp_path}/state.db"}[request.param]


def event(frame: Any) -> tuple[str, Any]:
    """Return the name and the data of an event of the protocol."""
    return frame["event"].removeprefix("pusher_internal:"), json.loads(frame["data"])


def ids(server: Any, channel: str = HALL) -> list[str]:
    """Return who is in a channel, as the REST API says."""
    return sorted(user["id"] for user in done(server, "GET", f"/channels/{channel}/users")["users"])


def test_members_stay_members_over_an_upgrade(engine: str, start_server: StartServer) -> None:
    """Nobody leaves or joins, what comes afterwards is as before, and nothing is sent twice."""
    server = start_server("--engine", engine)
    with ExitStack() as stack:
        ann, tab, bob = (stack.enter_context(line(server)) for _ in range(3))
        ann.joins(HALL, "ann", {"name": "Ann"})
        tab.joins(HALL, "ann", {"name": "Other"})
        bob.joins(HALL, "bob")
        assert (
            event(ann.next()) == event(tab.next()) == ("member_added", {"user_id": "bob", "user_info": None})
        )
        report = asyncio.run(ask_to_upgrade(Settings(port=server.port)))
        try:
            assert (report.tally["websocket"], report.tally["ended"]) == (3, 0)
            for client in (ann, tab, bob):
                assert client.nothing_more()
            assert ids(server) == ["ann", "bob"]
            tab.stream.close()
            bob.sends("client-hi", 1, channel=HALL)
            assert ann.next() == {"event": "client-hi", "channel": HALL, "data": 1, "user_id": "bob"}
            bob.sends("pusher:unsubscribe", {"channel": HALL})
            assert event(ann.next()) == ("member_removed", {"user_id": "bob"})
            again = bob.joins(HALL, "bob")
            assert again["presence"]["hash"] == {"ann": {"name": "Ann"}, "bob": None}
            assert event(ann.next()) == ("member_added", {"user_id": "bob", "user_info": None})
            assert ann.nothing_more()
        finally:
            with suppress(ProcessLookupError):
                os.kill(report.pid, signal.SIGKILL)


def test_no_member_outlives_a_crash(tmp_path: Path, start_server: StartServer) -> None:
    """The file has those of the last run, whose clients come back as others."""
    flags = ("--engine", f"sqlite:///{tmp_path}/state.db")
    server = start_server(*flags)
    with line(server) as ann:
        ann.joins(HALL, "ann")
        assert ids(server) == ["ann"]
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
    server = start_server(*flags)
    with line(server) as bob:
        bob.joins(HALL, "bob")
        eventually(lambda: ids(server) == ["bob"], "a member of the last run is still there")


@pytest.mark.nodes(1, 3, CLUSTER, SQLITE)
@pytest.mark.parametrize("how", ["reset", "end"])
def test_a_lost_line_leaves_at_once(server: Any, how: str) -> None:
    """Without a close frame too."""
    channel = f"presence-{uuid4().hex}"
    with line(server) as ann, line(server) as bob:
        ann.joins(channel, "ann")
        bob.joins(channel, "bob")
        assert event(ann.next())[0] == "member_added"
        if how == "reset":
            linger = struct.pack("ii", 1, 0)
            bob.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            bob.stream.socket.shutdown(socket.SHUT_RD)
            bob.stream.socket.close()
        else:
            bob.stream.socket.shutdown(socket.SHUT_RDWR)
        assert event(ann.next()) == ("member_removed", {"user_id": "bob"})


class Book:
    """The members of a channel as one client knows them, by all that it is sent.

    Attributes:
        names: None while the client is not subscribed.
    """

    def __init__(self, client: PusherClient, channel: str, name: str) -> None:
        self.names: set[str] | None = None
        self._client = client
        self._channel = channel
        self._name = name

    def toggle(self) -> None:
        """Subscribe, or unsubscribe."""
        if self.names is None:
            self._client.sends(
                "pusher:subscribe",
                {
                    "channel": self._channel,
                    "channel_data": (data := json.dumps({"user_id": self._name})),
                    "auth": self._client.auth(self._channel, data),
                },
            )
            while self.names is None:
                self._read()
        else:
            self._client.sends("pusher:unsubscribe", {"channel": self._channel})
            self.read_all()
            self.names = None

    def read_all(self) -> None:
        """Read what was sent so far."""
        self._client.sends("pusher:ping")
        while self._read() != "pusher:pong":
            pass

    def _read(self) -> str:
        frame = self._client.next()
        name, data = event(frame)
        if name == "subscription_succeeded":
            assert self._name in data["presence"]["ids"], data
            assert len(data["presence"]["ids"]) == data["presence"]["count"]
            self.names = set(data["presence"]["ids"])
        elif name in ("member_added", "member_removed"):
            assert data["user_id"] != self._name, frame
            if self.names is None:
                pass  # It waited for the flush as the client unsubscribed, and a pong waits for nothing.
            elif name == "member_added":
                self.names.add(data["user_id"])
            else:
                assert data["user_id"] in self.names, "left twice, or never came"
                self.names.discard(data["user_id"])
        else:
            assert name == "pusher:pong", frame
        return str(name)


@pytest.mark.nodes(1, 3, CLUSTER, SQLITE)
@pytest.mark.parametrize("seed", range(2))
def test_all_clients_know_the_same_members(server: Any, seed: int) -> None:
    """Whatever tabs come and go, at whatever nodes: each by its own events, and the API too."""
    random, channel = Random(seed), f"presence-{uuid4().hex}"
    with ExitStack() as stack:
        names = [random.choice(["ann", "bob", "eve"]) for _ in range(6)]
        books = [Book(stack.enter_context(line(server)), channel, name) for name in names]
        for _ in range(60):
            random.choice(books).toggle()
        for book in books[:2]:
            if book.names is None:
                book.toggle()
        inside = {name for name, book in zip(names, books, strict=True) if book.names is not None}
        assert ids(server, channel) == sorted(inside)

        def agree() -> bool:
            for book in books:
                if book.names is not None:
                    book.read_all()
            return all(book.names in (None, inside) for book in books)

        eventually(agree, f"{[book.names for book in books]} instead of {inside}")


async def join_at_once(server: Any, channel: str, number: int, others: asyncio.Barrier) -> list[str]:
    """Subscribe at the same time as others; return the names that came twice: in the answer, and as an event afterwards."""
    async with websockets.connect(address(server), compression=None) as stream:
        established = json.loads(json.loads(await stream.recv())["data"])
        data = json.dumps({"user_id": f"user{number}"})
        mac = signature(KIT["SECRET"], channel_text(established["socket_id"], channel, data))
        asked = {"channel": channel, "channel_data": data, "auth": f"{KIT['KEY']}:{mac}"}
        await others.wait()
        await stream.send(json.dumps({"event": "pusher:subscribe", "data": asked}))
        names: set[str] = set()
        twice: list[str] = []
        while len(names) < others.parties:
            name, found = event(json.loads(await stream.recv()))
            if name == "member_added":
                twice += [found["user_id"]] if found["user_id"] in names else []
                names.add(found["user_id"])
            else:
                names |= set(found["presence"]["ids"])
        await others.wait()
        await stream.send(json.dumps({"event": "pusher:ping"}))
        while (frame := json.loads(await stream.recv()))["event"] != "pusher:pong":
            twice.append(frame["data"])
        await others.wait()
        return twice


@pytest.mark.nodes(1, 3, CLUSTER, SQLITE)
def test_nobody_is_both_in_the_answer_and_announced(server: Any) -> None:
    """Of clients that subscribe at once, each is one or the other: programs add who is announced to their lists."""
    channel, count = f"presence-{uuid4().hex}", 30

    async def scenario() -> list[list[str]]:
        others = asyncio.Barrier(count)
        work = (join_at_once(server, channel, number, others) for number in range(count))
        return await asyncio.wait_for(asyncio.gather(*work), PATIENCE_S)

    assert asyncio.run(scenario()) == [[]] * count
