"""A server with a file: killed while messages come in, and started again."""

import json
import os
import resource
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.conftest import RunningServer, StartServer
from tests.http_client import http
from tests.nursery import nursery
from tests.waiting import PATIENCE_S, eventually
from websockets.sync.client import connect

PUBLISHERS = 4
ACKNOWLEDGED = 200
"""Messages after which the server is killed."""


class Load:
    """Publishers that run until the server has ended."""

    def __init__(self, server: RunningServer) -> None:
        self.acknowledged: list[str] = []
        self.enough = threading.Event()
        self._server = server
        self._threads = [threading.Thread(target=self._publish, args=(n,)) for n in range(PUBLISHERS)]

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        assert self.enough.wait(30)
        yield
        for thread in self._threads:
            thread.join(30)

    def _publish(self, publisher: int) -> None:
        number = 0
        with httpx.Client(
            verify=False, base_url=self._server.url, headers=self._server.sign("/message"), timeout=PATIENCE_S
        ) as client:
            while True:
                number += 1
                body = {"channel": "a", "user": "ann", "message": f"{publisher}-{number}"}
                try:
                    answer = client.post("/message", json=body)
                except httpx.HTTPError:
                    return
                assert answer.status_code == 200
                self.acknowledged.append(body["message"])
                if len(self.acknowledged) >= ACKNOWLEDGED:
                    self.enough.set()


def received_by_websocket(server: RunningServer, since: str, last: str) -> list[dict[str, Any]]:
    conn_id = server.connect("bob", "a", since=since)
    items: list[dict[str, Any]] = []
    with connect(f"{server.ws_url}/ws?conn_id={conn_id}&since={since}") as socket:
        server.post("/message", {"channel": "a", "user": "ann", "message": last})
        while not items or items[-1].get("message") != last:
            items += json.loads(socket.recv(timeout=PATIENCE_S))
    return items


def received_by_sse(server: RunningServer, since: str, last: str) -> list[dict[str, Any]]:
    conn_id = server.connect("bob", "a", since=since)
    items: list[dict[str, Any]] = []
    with http.stream(
        "GET", f"{server.url}/sse?conn_id={conn_id}", headers={"last-event-id": since}
    ) as stream:
        server.post("/message", {"channel": "a", "user": "ann", "message": last})
        for line in stream.iter_lines():
            if line.startswith("data:"):
                items += json.loads(line[5:])
            if items and items[-1].get("message") == last:
                break
    return items


@pytest.mark.parametrize("receive", [received_by_websocket, received_by_sse])
def test_every_acknowledged_message_outlives_kill_9(
    start_server: StartServer, tmp_path: Path, receive: Any
) -> None:
    """A client that resumes, or that loaded the history, receives each exactly once, in offset order."""
    engine = f"--engine=sqlite:///{tmp_path / 'state.db'}"
    first = start_server(engine, "--log-events=100000")
    first.post("/channel_config", {"a": {"store_history": True, "history_size": 1000}})
    begin = first.post("/info", {})["position"]
    load = Load(first)
    with load.running():
        snapshot = first.post("/info", {})["channels"]["a"]
        first.process.kill()
    second = start_server(engine, "--log-events=100000")
    resumed, *items = receive(second, begin, "the last")
    assert "a" in resumed["recovered"]
    received = [item["message"] for item in items if item["type"] == "message"]
    numbers = [int(item["position"].rpartition("-")[2]) for item in items]
    assert numbers == sorted(set(numbers))
    assert len(received) == len(set(received))
    assert set(load.acknowledged) <= set(received)
    # Snapshot, then stream: nothing is missing between the two, and nothing comes twice.
    shown = [item["message"] for item in snapshot["history"]]
    _, *later = receive(second, snapshot["position"], "the very last")
    assert shown + [item["message"] for item in later] == [*received, "the very last"]


def open_stream(server: RunningServer, transport: str, conn_id: str, since: str) -> Iterator[dict[str, Any]]:
    """Yield the items of a stream."""
    path = f"conn_id={conn_id}&since={since}"
    if transport == "ws":
        with connect(f"{server.ws_url}/ws?{path}") as socket:
            while True:
                yield from json.loads(socket.recv(timeout=PATIENCE_S))
    elif transport == "sse":
        with http.stream("GET", f"{server.url}/sse?{path}") as stream:
            for line in stream.iter_lines():
                yield from json.loads(line[5:]) if line.startswith("data:") else ()
    else:
        yield from http.get(f"{server.url}/listen?{path}").json()


@pytest.mark.parametrize(
    ("transport", "ends"), [("ws", "kill"), ("sse", "kill"), ("poll", "kill"), ("ws", "stop")]
)
def test_clients_resume_after_a_restart_without_their_application(
    start_server: StartServer, tmp_path: Path, transport: str, ends: str
) -> None:
    """With their id and position: nothing is lost, and nobody is announced, whether the server was killed or stopped."""
    engine = f"--engine=sqlite:///{tmp_path / 'state.db'}"
    first = start_server(engine)
    ids = [
        first.connect(user, "a", channel_configs={"a": {"notify_presence": True}}) for user in ("ann", "bob")
    ]
    ended = first.connect("cid", "a")
    first.post("/message", {"channel": "a", "user": "app", "message": "before"})
    position = first.post("/info", {})["position"]
    streams = [open_stream(first, transport, conn_id, "") for conn_id in ids]
    assert all(next(stream)["type"] == "resumed" for stream in streams)
    assert first.request("POST", "/disconnect", {"conn_id": ended}).status_code == 200
    first.process.kill() if ends == "kill" else first.stop()
    second = start_server(engine)
    assert any("starting channelstream" in line and "engine sqlite" in line for line in second.lines)
    assert any("restored 2 connections; a client has " in line for line in second.lines)
    info = second.post("/info", {"channels": ["a"]})
    assert (info["channels"]["a"]["total_users"], info["channels"]["a"]["total_connections"]) == (2, 2)
    second.post("/message", {"channel": "a", "user": "app", "message": "after"})
    for conn_id in ids:
        items = open_stream(second, transport, conn_id, position)
        resumed = next(items)
        assert (resumed["type"], resumed["recovered"], resumed["lost"]) == ("resumed", ["", "a"], [])
        later = [next(items), next(items)]
        assert [(item["type"], item.get("user"), item.get("message")) for item in later] == [
            ("presence", "cid", {"action": "parted"}),
            ("message", "app", "after"),
        ]
    assert second.request("POST", "/disconnect", {"conn_id": ended}).status_code == 200
    gone = http.get(f"{second.url}/listen", params={"conn_id": ended, "since": position})
    assert (gone.status_code, gone.json()["close_code"]) == (401, 4001)


def test_a_full_disk_refuses_and_recovers(start_server: StartServer, tmp_path: Path) -> None:
    """A publish is answered with 503 and Retry-After as long as the file cannot grow, and works after that."""
    path = tmp_path / "state.db"
    server = start_server(f"--engine=sqlite:///{path}")
    server.connect("bob", "a")
    body = {"channel": "a", "user": "ann", "message": "x" * 100_000}
    _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (4096, hard))
    refused = server.request("POST", "/message", body)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    unready = http.get(f"{server.url}/readyz")
    assert (unready.status_code, unready.text) == (503, "engine")
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    eventually(lambda: http.get(f"{server.url}/readyz").status_code == 200, "the file takes no writes")
    assert server.request("POST", "/message", body).status_code == 200
    log = server.stop()[1]
    [line] = [line for line in log.splitlines() if "the engine's file takes no writes" in line]
    assert "its disk fails" in line or "the disk is full" in line
    assert "Traceback" not in log


def test_a_locked_file_refuses_and_recovers(start_server: StartServer, tmp_path: Path) -> None:
    """While another program holds the file one log line says so, with the remedy; after that all continues."""
    path = tmp_path / "state.db"
    server = start_server(f"--engine=sqlite:///{path}")
    body = {"channel": "a", "user": "ann", "message": "hi"}
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(2):
            assert server.request("POST", "/message", body).status_code == 503
    assert server.request("POST", "/message", body).status_code == 200
    log = server.stop()[1]
    assert log.count("another program has locked it: end what that writes") == 1
    assert "Traceback" not in log


def test_a_second_server_on_one_file_says_so_and_ends(start_server: StartServer, tmp_path: Path) -> None:
    """With a line that names the file."""
    engine = f"--engine=sqlite:///{tmp_path / 'state.db'}"
    start_server(engine)
    second = nursery().run(["-p", "0", engine], os.environ)
    assert second.returncode != 0
    assert "is in use by another server" in second.stderr
    assert "Traceback" not in second.stderr
