"""Several worker processes on one port, with a real Redis."""

import asyncio
import errno
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import permutations
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from tests.descriptors import few_descriptors, lowest_free
from tests.http_client import http
from tests.nursery import nursery
from tests.processes import children, links, zombies
from tests.redis_server import RedisServer
from tests.streams import next_items
from tests.waiting import PATIENCE_S, eventually
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from channelstream.config import Settings
from channelstream.errors import CannotHandOver
from channelstream.supervisor import supervisor as supervisor_module
from channelstream.supervisor.ports import reserve
from channelstream.supervisor.slot import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    MAX_SILENT_LOOKS,
    YOUNG_S,
    WorkerSlot,
)
from channelstream.supervisor.supervisor import LOOK_S, Supervisor
from channelstream.supervisor.worker import ALIVE
from channelstream.upgrade import control
from channelstream.upgrade.control import UPGRADE, ask_to_upgrade
from channelstream.upgrade.line import Line, Part
from channelstream.upgrade.messages import Failure, Report


@pytest.fixture
def service(redis: RedisServer, start_server: Callable[..., Any]) -> Any:
    return start_server("--engine", redis.address, "--workers", "2")


def sockets(pid: int) -> int:
    """Count the sockets of a process."""
    return sum(each.startswith("socket:") for each in links(pid))


def fail(*flags: str) -> "subprocess.CompletedProcess[str]":
    """Run a server that must not start."""
    return nursery().run(flags, {})


class Client:
    """A WebSocket client that comes back with its position whenever its stream ends."""

    def __init__(self, service: Any, stack: ExitStack, user: str) -> None:
        self._url = f"{service.ws_url}/ws?conn_id={service.connect(user, 'a')}&since="
        self._stack = stack
        self._position = ""
        self._stream = self._open()
        self.streams = 1
        self.lost: list[str] = []
        # An empty position stands for the head at the moment of this item: what is published earlier may be before it.
        [resumed] = next_items(self._stream)
        assert resumed["type"] == "resumed"
        self._position = resumed["position"]

    def _open(self) -> ClientConnection:
        return self._stack.enter_context(connect(self._url + self._position, close_timeout=1))

    def receive(self, count: int) -> list[int]:
        """Return the numbers of so many messages."""
        found: list[int] = []
        deadline = time.monotonic() + PATIENCE_S
        while len(found) < count:
            assert time.monotonic() < deadline, (found, self.lost, self.streams)
            try:
                items = json.loads(self._stream.recv(PATIENCE_S))
            except ConnectionClosed:
                self._stream = self._open()
                self.streams += 1
                continue
            for item in items:
                self._position = item.get("position", self._position)
                self.lost += item.get("lost", [])
                found += [item["message"]["n"]] if item["type"] == "message" else []
        return found


def publish(service: Any, n: int) -> None:
    """Send a message, and again with the same uuid where the worker that took the call died over it."""
    body = [{"user": "app", "channel": "a", "message": {"n": n}, "uuid": f"00000000-0000-4000-8000-{n:012}"}]
    for attempt in range(5):
        try:
            service.post("/message", body)
        except httpx.TransportError:
            assert attempt < 4
        else:
            return


def test_a_killed_worker_is_replaced(service: Any) -> None:
    """Its clients reconnect to any worker by their conn_id, and receive every acknowledged message once."""
    parent = service.process.pid
    before = children(parent)
    assert len(before) == 2
    idle = {pid: sockets(pid) for pid in before}
    with ExitStack() as stack:
        clients = [Client(service, stack, f"u{number}") for number in range(8)]
        for n in range(10):
            publish(service, n)
        assert [client.receive(10) for client in clients] == [list(range(10))] * 8
        busiest = max(before, key=lambda pid: sockets(pid) - idle[pid])
        os.kill(busiest, signal.SIGKILL)
        for n in range(10, 40):
            publish(service, n)
        assert [client.receive(30) for client in clients] == [list(range(10, 40))] * 8
        assert [client.lost for client in clients] == [[]] * 8
        assert any(client.streams > 1 for client in clients)
    eventually(lambda: len(children(parent) - {busiest}) == 2, "the worker is not replaced")


def test_a_worker_that_is_killed_in_its_upgrade_is_replaced(service: Any) -> None:
    """The new process ends as well, and the parent does not keep it as a zombie."""
    parent = service.process.pid
    [first, _] = before = sorted(children(parent))
    with ThreadPoolExecutor() as threads:
        upgraded = threads.submit(asyncio.run, ask_to_upgrade(Settings(port=service.port, workers=2)))
        eventually(lambda: children(first), "no new process starts")
        before += children(first)
        os.kill(first, signal.SIGKILL)
        with pytest.raises(CannotHandOver, match=f"worker {first} has ended"):
            upgraded.result(PATIENCE_S)
    eventually(lambda: len(children(parent) - set(before)) == 1, "the worker is not replaced")
    eventually(lambda: len(children(parent)) == 2 and not zombies(parent), "a process is left")


def test_both_workers_serve(service: Any) -> None:
    """New connections of one port are shared among them."""
    idle = {pid: sockets(pid) for pid in children(service.process.pid)}
    with ExitStack() as stack:
        for number in range(32):
            Client(service, stack, f"u{number}")
        assert all(sockets(pid) > count for pid, count in idle.items())


def of_each_worker(service: Any, stack: ExitStack) -> list[httpx.Client]:
    """Clients that keep their connections, one with each worker."""
    workers = children(service.process.pid)
    found: dict[int, httpx.Client] = {}
    while len(found) < len(workers):
        idle = {pid: sockets(pid) for pid in workers}
        client = stack.enter_context(httpx.Client(verify=False, base_url=service.url, timeout=PATIENCE_S))
        client.get("/info", headers=service.sign("/info")).raise_for_status()
        [reached] = [pid for pid in workers if sockets(pid) > idle[pid]]
        found.setdefault(reached, client)
    return list(found.values())


def live_at(service: Any, name: str, here: httpx.Client, there: httpx.Client, yonder: httpx.Client) -> None:
    """Live a connection's life, each of whose calls goes to another worker than the one before."""

    def call(client: httpx.Client, path: str, body: Any, method: str = "POST") -> Any:
        answer = client.request(method, path, json=body, headers=service.sign(path))
        assert answer.status_code == 200, answer.text
        return answer.json()

    config = {name: {"store_history": True, "notify_state": True}}
    made = call(here, "/connect", {"username": name, "channels": [name], "channel_configs": config})
    conn_id = {"conn_id": made["conn_id"]}
    added = call(there, "/subscribe", conn_id | {"channels": [f"{name}-2"]})
    assert added["channels"] == [name, f"{name}-2"]
    message = {"user": "app", "channel": name, "uuid": str(uuid4()), "message": {"n": 1}}
    sent = call(yonder, "/message", message)
    assert call(here, "/message", message) == sent
    assert call(there, "/message", message | {"message": {"n": 2}}, "PATCH")["found"]
    call(yonder, "/user_state", {"user": name, "user_state": {"a": 1}, "state_public_keys": ["a"]})
    call(here, "/message", {"user": "app", "pm_users": [name], "message": {"n": 3}})
    received = there.get("/listen", params=conn_id).json()
    assert [item["type"] for item in received] == ["message", "message:edit", "user_state_change", "message"]
    about = call(yonder, "/info", {"info": {"channels": [name]}})
    assert about["users"] == [{"user": name, "state": {"a": 1}}]
    assert [item["message"] for item in about["channels"][name]["history"]] == [{"n": 2}]
    assert call(here, "/unsubscribe", conn_id | {"channels": [name]})["channels"] == [f"{name}-2"]
    assert call(yonder, "/disconnect", conn_id) is True
    assert there.get("/listen", params=conn_id).status_code == 401
    assert call(here, "/disconnect", conn_id) is False


def test_any_worker_serves_any_call(redis: RedisServer, start_server: Callable[..., Any]) -> None:
    """Three of them behind one port, in every order."""
    service = start_server("--engine", redis.address, "--workers", "3")
    with ExitStack() as stack:
        for order in permutations(of_each_worker(service, stack)):
            live_at(service, uuid4().hex, *order)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_all_workers(service: Any, number: signal.Signals) -> None:
    """Streams are closed with 1012, no process is left, and the exit code is 0."""
    workers = children(service.process.pid)
    with ExitStack() as stack:
        streams = [
            stack.enter_context(connect(f"{service.ws_url}/ws?conn_id={service.connect(f'u{number}', 'a')}"))
            for number in range(8)
        ]
        service.process.send_signal(number)
        for stream in streams:
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    stream.recv(PATIENCE_S)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
    service.process.wait(PATIENCE_S)
    code, log = service.stop()
    assert (code, "Traceback" in log) == (0, False), log
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_workers_end_when_their_parent_is_killed(
    redis: RedisServer, start_server: Callable[..., Any], port: str, tmp_path: Path
) -> None:
    """The port is free, so that a service manager can start it again, and no file of theirs is left."""
    service = start_server("-p", port, "--engine", redis.address, "--workers", "2", TMPDIR=str(tmp_path))
    eventually(lambda: len(list(tmp_path.glob("channelstream-*/*.sock"))) == 2, "the workers have no sockets")
    workers = children(service.process.pid)
    service.process.kill()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "workers live on")
    socket.create_server(("127.0.0.1", service.port)).close()
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_cannot_start_stops_the_whole(tmp_path: Path) -> None:
    """One line says why, and the exit code is that of one process."""
    ended = fail("--workers", "2", "-p", "0", "--engine", f"unix://{tmp_path}/none.sock")
    assert ended.returncode == 2
    [line] = [line for line in ended.stderr.splitlines() if line.startswith("channelstream: ")]
    assert line.startswith("channelstream: engine: ")
    assert "Traceback" not in ended.stderr


def test_a_port_in_use_ends_the_start_of_workers(redis: RedisServer, service: Any) -> None:
    """Also by the workers of another service, which would share it: exit code 2 and one line."""
    ended = fail("--workers", "2", "-p", str(service.port), "--engine", redis.address)
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert f"cannot listen on http://127.0.0.1:{service.port}: Address already in use" in line
    assert line.endswith("take another port with -p")


def test_a_port_is_taken_before_a_worker_listens() -> None:
    """Two services that start at the same moment do not share a port."""
    with ExitStack() as stack:
        [held] = map(stack.enter_context, reserve("127.0.0.1", 0))
        port = held.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            reserve("127.0.0.1", port)


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ((), "workers: 2 processes cannot share engine 'memory'; set engine = redis://"),
        (("--engine", "sqlite:///s.db"), "workers: 2 processes cannot share engine 'sqlite:///s.db'; set "),
        (
            ("--engine", "redis://h", "--unix-socket", "/s"),
            "workers: 2 processes cannot share unix_socket '/s'; set host",
        ),
    ],
)
def test_options_that_workers_cannot_share_are_refused(flags: tuple[str, ...], problem: str) -> None:
    """Exit code 2 and one line that names option, value and remedy."""
    ended = fail("--workers", "2", *flags)
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"channelstream: {problem}")


def test_a_worker_that_dies_young_is_restarted_with_backoff() -> None:
    """The pause doubles up to its limit; a worker that lived long is replaced soon."""
    seat = WorkerSlot()
    pauses = []
    for now_s in range(12):
        seat.started_s = now_s
        seat.vacate(now_s + YOUNG_S / 2)
        pauses.append(seat.pause_s)
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (2 * FIRST_PAUSE_S, LONGEST_PAUSE_S)
    seat.vacate(seat.started_s + YOUNG_S)
    assert seat.pause_s == FIRST_PAUSE_S


def test_a_worker_that_hangs_is_killed() -> None:
    """It has shown life before, and then not for as many looks. However long the parent was stopped, it makes one look."""
    supervisor = Supervisor(Settings(workers=2), [])
    with subprocess.Popen(["sleep", "infinity"]) as hung, subprocess.Popen(["sleep", "infinity"]) as alive:
        lines = []
        for slot, process in zip(supervisor._slots, (hung, alive), strict=True):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            supervisor._attend(slot, process.pid, ours)
            lines += [ours, theirs]
        before = supervisor._timeout_s()

        def show_life(process: "subprocess.Popen[bytes]", end: socket.socket) -> None:
            end.send(ALIVE + str(process.pid).encode())
            for key, _ in supervisor._selector.select():
                key.data()

        show_life(hung, lines[1])
        now_s = 1_000_000.0
        for _ in range(MAX_SILENT_LOOKS):
            show_life(alive, lines[3])
            supervisor._look(now_s)
            supervisor._look(now_s + LOOK_S / 2)
            now_s += 100 * LOOK_S
        # One that is killed is not looked at any more.
        assert [slot.silent_looks for slot in supervisor._slots] == [MAX_SILENT_LOOKS, 1]
        supervisor._look(now_s)
        assert hung.wait(PATIENCE_S) == -signal.SIGKILL
        supervisor._look(now_s + LOOK_S)
        assert (before, alive.poll()) == (None, None)
        alive.kill()
        for each in lines:
            each.close()


def test_a_process_that_has_taken_over_must_show_life() -> None:
    """Also if it hangs before it has said that it serves; the life of the process before it is not its own."""
    supervisor = Supervisor(Settings(workers=1), [])
    supervisor._has_served = True
    with subprocess.Popen(["sleep", "infinity"]) as old:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        [slot] = supervisor._slots
        slot.pid, slot.silent_looks = old.pid, 2
        theirs.send(ALIVE + b"7")
        supervisor._receive(slot, ours)
        assert slot.silent_looks == 2
        supervisor._renewed(slot, Report("1", "2", 7, {}, 0.1, None))
        slot.look()
        theirs.send(ALIVE + str(old.pid).encode())
        supervisor._receive(slot, ours)
        assert slot.silent_looks == 1
        old.kill()
    for each in (ours, theirs):
        each.close()


WATCHED = """
import sys
from channelstream.supervisor import supervisor, worker
supervisor.LOOK_S = worker.ALIVE_S = 0.3
from channelstream.cli import main
sys.exit(main())
"""


def test_a_worker_that_is_stopped_is_replaced(redis: RedisServer, tmp_path: Path) -> None:
    """Nothing else ends it, and the kernel goes on to give it a part of all clients."""
    flags = ("--engine", redis.address, "--workers", "2", "--port", "0")
    log = tmp_path / "log"
    with (
        log.open("wb") as written,
        subprocess.Popen([sys.executable, "-c", WATCHED, *flags], stderr=written, stdout=written) as parent,
    ):
        eventually(lambda: "2 workers " in log.read_text(), "the service does not start")
        stopped = min(children(parent.pid))
        os.kill(stopped, signal.SIGSTOP)
        eventually(lambda: f"worker {stopped} has ended (signal 9)" in log.read_text(), "it is not killed")
        eventually(lambda: len(children(parent.pid) - {stopped}) == 2, "it is not replaced")
        parent.terminate()
        assert parent.wait(PATIENCE_S) == 0
    assert f"worker {stopped} has hung for" in log.read_text()


def test_a_worker_that_the_system_refuses_is_tried_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others go on, signals are received, and no socket stays open."""

    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", refuse)
    supervisor, slot = Supervisor(Settings(workers=2), []), WorkerSlot()
    before = sockets(os.getpid())
    for pause_s in (2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S):
        supervisor._start(slot, 5.0)
        assert (slot.pid, slot.line, slot.due_s) == (0, None, 5.0 + pause_s)
    assert sockets(os.getpid()) == before
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGTERM, signal.SIGINT}


def test_a_parent_goes_on_without_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts a worker later, and answers later who asks for an upgrade: if it ended, so would all workers."""
    monkeypatch.setattr(control, "PAUSE_S", 0.0)
    supervisor, slot = Supervisor(Settings(unix_socket=f"/nowhere/{uuid4()}"), []), WorkerSlot()
    supervisor._listen_for_requests()
    listening = supervisor._requests
    assert listening is not None
    asked = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    asked.connect(listening.getsockname())
    with few_descriptors(lowest_free()):
        supervisor._start(slot, 5.0)
        supervisor._asked(listening)
        supervisor._retire(os.getpid())
    assert (slot.pid, slot.due_s) == (0, 5.0 + 2 * FIRST_PAUSE_S)
    asyncio.run(Line(asked).send(Part(UPGRADE)))
    with few_descriptors(lowest_free() + 1):
        supervisor._asked(listening)
    assert Failure.of(asyncio.run(Line(asked).receive())).goes_on
    for each in (asked, listening):
        each.close()


def test_one_who_asks_for_nothing_is_refused_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent serves nobody else meanwhile."""
    monkeypatch.setattr(supervisor_module, "REQUEST_S", 0.01)
    supervisor = Supervisor(Settings(unix_socket=f"/nowhere/{uuid4()}"), [])
    supervisor._listen_for_requests()
    listening = supervisor._requests
    assert listening is not None
    with listening, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.connect(listening.getsockname())
        supervisor._asked(listening)
        assert (
            Failure.of(asyncio.run(Line(silent).receive())).reason == "this version does not know the request"
        )


def test_a_scrape_has_every_worker(service: Any) -> None:
    """Whichever of them is asked; each sample has the number of its worker, and a request is counted at one of them.

    A signal to upgrade that is not sent to the parent changes nothing.
    """
    for pid in children(service.process.pid):
        os.kill(pid, signal.SIGUSR2)
    with ExitStack() as stack:
        before = counted(scrape(service))
        clients = of_each_worker(service, stack)
        for client in clients:
            families = scrape(service, client)
            assert by_worker(families, "channelstream_worker_up") == {"0": 1, "1": 1}
            assert set(by_worker(families, "process_cpu_seconds_total")) == {"0", "1"}
        after = counted(scrape(service))
    assert all(after[worker] > before.get(worker, 0) for worker in ("0", "1"))


def test_a_worker_that_does_not_answer_is_reported(service: Any) -> None:
    """The scrape does not wait for it, and it is back as soon as it answers."""
    with ExitStack() as stack:
        workers = children(service.process.pid)
        idle = {pid: sockets(pid) for pid in workers}
        client = stack.enter_context(httpx.Client(verify=False, timeout=PATIENCE_S))
        client.get(f"{service.url}/info", headers=service.sign("/info")).raise_for_status()
        [reached] = [pid for pid in workers if sockets(pid) > idle[pid]]
        [stopped] = workers - {reached}
        os.kill(stopped, signal.SIGSTOP)
        try:
            up = by_worker(scrape(service, client), "channelstream_worker_up")
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert sorted(up.values()) == [0, 1]
        eventually(
            lambda: by_worker(scrape(service, client), "channelstream_worker_up") == {"0": 1, "1": 1},
            "the worker is not back",
        )


def test_a_scrape_works_while_redis_is_out_of_reach(tmp_path: Path, start_server: Callable[..., Any]) -> None:
    """It has the failed calls, and says that no worker is ready."""
    redis = RedisServer(tmp_path, "--save", "")
    redis.start()
    try:
        service = start_server("--engine", redis.address, "--workers", "2", "--engine-timeout-s", "2")
    finally:
        redis.kill()
    assert (
        service.request("POST", "/message", [{"user": "a", "channel": "a", "message": 1}]).status_code == 503
    )
    eventually(
        lambda: by_worker(scrape(service), "channelstream_ready") == {"0": 0, "1": 0},
        "a worker is still ready",
    )
    assert sum(by_worker(scrape(service), "channelstream_engine_errors_total").values()) >= 1
    assert by_worker(scrape(service), "channelstream_worker_up") == {"0": 1, "1": 1}


def test_the_port_of_scrapers_is_shared_by_the_workers(
    redis: RedisServer, start_server: Callable[..., Any], port: str
) -> None:
    """Each answers for all."""
    start_server("--engine", redis.address, "--workers", "2", f"--metrics-port={port}")
    url = f"http://127.0.0.1:{port}"
    eventually(
        lambda: (
            by_worker(read(http.get(f"{url}/metrics").text), "channelstream_worker_up") == {"0": 1, "1": 1}
        ),
        "a worker is missing",
    )


def read(text: str) -> list[Metric]:
    return list(text_string_to_metric_families(text))


def scrape(service: Any, client: httpx.Client | None = None) -> list[Metric]:
    """Return what one of the workers answers, or that of a client."""
    asked = client or http
    answer = asked.get(f"{service.url}/metrics", auth=("admin", service.admin_secret), timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    return read(answer.text)


def by_worker(families: list[Metric], name: str) -> dict[str, float]:
    """Return the sum of a sample's values for each worker."""
    found: dict[str, float] = {}
    for family in families:
        for sample in family.samples:
            if sample.name == name:
                worker = sample.labels["worker"]
                found[worker] = found.get(worker, 0) + sample.value
    return found


def counted(families: list[Metric]) -> dict[str, float]:
    return by_worker(families, "channelstream_http_requests_total")


def test_a_worker_that_ends_before_the_one_that_it_replaced_is_replaced() -> None:
    """For a moment it is the child of that one, and the parent of the workers cannot ask for its exit code."""
    supervisor = Supervisor(Settings(workers=2), [])
    line, other = socket.socketpair()
    supervisor._selector.register(line, selectors.EVENT_READ)
    slot = supervisor._slots[0]
    slot.pid, slot.line, slot.is_serving = os.getppid(), line, True
    other.close()
    supervisor._lose(slot, line)
    assert (slot.pid, supervisor._code) == (0, None)
    assert slot.due_s is not None


@pytest.mark.parametrize(("ended", "code"), [(-signal.SIGTERM, 0), (-signal.SIGHUP, 0), (-signal.SIGSEGV, 1)])
def test_a_worker_that_a_late_signal_ends_has_stopped(ended: int, code: int) -> None:
    """Once its loop has ended it catches none that the parent passes on, such as the SIGHUP of a new key."""
    supervisor = Supervisor(Settings(workers=2), [])
    supervisor._stop(0)
    supervisor._ended(supervisor._slots[0], ended)
    assert supervisor._code == code
