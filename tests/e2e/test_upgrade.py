"""A running service whose process is replaced: its clients notice nothing, and a failure neither."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.conftest import RunningServer, StartServer
from tests.e2e.wire import Items, Wire, open_calls, open_wire
from tests.http_client import http
from tests.nursery import nursery
from tests.processes import children
from tests.redis_server import RedisServer
from tests.token_client import SECRET
from tests.waiting import PATIENCE_S, soon

from channelstream.config import Settings
from channelstream.errors import CannotHandOver, PeerEnded
from channelstream.service_manager import ADDRESS, STOPPING
from channelstream.upgrade.control import ask_to_upgrade
from channelstream.upgrade.messages import Report
from channelstream_client.testing.port import HeldPort

FAULTS = """
import os
from channelstream.upgrade import line, snapshot

fault, value = os.environ["UPGRADE_FAULT"].split("=")
send = line.Line.send

async def faulty(self, part):
    if fault == "dies" and part.kind == value:
        os._exit(7)
    if fault == "hangs" and part.kind == value:
        import asyncio
        await asyncio.Event().wait()
    if fault == "waits" and part.kind == value:
        import asyncio, pathlib
        waits = pathlib.Path(os.environ["PYTHONPATH"]) / "waits"
        waits.touch()
        while waits.exists():
            await asyncio.sleep(0.01)  # real time: until the test goes on.
    await send(self, part)

line.Line.send = faulty
if fault == "snapshot":
    snapshot.SNAPSHOT_VERSION = int(value)
if fault == "script":
    from channelstream.engines.redis import scripts
    begin, known = f"function operations.{value}(a)", scripts.scripts
    scripts.scripts = lambda: {name: text.replace(begin, f"{begin} error('broken')") for name, text in known().items()}
"""
"""A module that each new interpreter imports, and the forked server of a test does not: faults of new processes only."""


PAUSE_S = 0.002
"""Between two messages of the publisher: the pause of an upgrade is far longer, so a message waits in each. While the new
process starts, which takes most of the time, the processor is left to it."""
ALL_EVENTS = ("--log-events", "1000000")
"""Flags of a server whose log reaches back to the first event, however far the publisher comes before a client reads."""


@dataclass
class Service:
    """A server, whatever process serves.

    Attributes:
        pids: of the processes that were handed everything over.
    """

    running: RunningServer
    pids: list[int] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        return Settings(port=self.running.port)

    async def upgrade(self) -> Report:
        report = await ask_to_upgrade(self.settings)
        self.pids.append(report.pid)
        return report

    async def post(self, path: str, body: object) -> Any:
        return await asyncio.to_thread(self.running.post, path, body)

    async def stream(self, transport: str, stack: AsyncExitStack) -> Wire:
        """Register a connection in channel a, and return its stream, which has begun.

        What is published before the first item may be before the position that an empty one stands for.
        """
        conn_id = await asyncio.to_thread(self.running.connect, uuid4().hex, "a")
        wire = await open_wire(transport, self.running.port)
        stack.push_async_callback(wire.close)
        await wire.ask(conn_id, "")
        [resumed] = await wire.items()
        assert resumed["type"] == "resumed"
        return wire


@pytest.fixture
def start_service(start_server: StartServer) -> Any:
    """Start services of one's own; the processes that took over end with the test."""
    started: list[Service] = []

    def start(*flags: str, **environ: str) -> Service:
        started.append(Service(start_server(*flags, **environ)))
        return started[-1]

    yield start
    for service in started:
        for pid in service.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def faulty(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """Return the environment of a server whose next processes have a fault."""
    (tmp_path / "sitecustomize.py").write_text(FAULTS)
    return lambda fault: {"PYTHONPATH": str(tmp_path), "UPGRADE_FAULT": fault}


def play(scenario: Coroutine[Any, Any, None]) -> None:
    async def run() -> None:
        # Each upgrade starts interpreters, which takes seconds on a busy machine.
        async with asyncio.timeout(5 * PATIENCE_S):
            await scenario

    asyncio.run(run())


async def texts(wire: Wire, until: int) -> list[int]:
    """Return the numbers of the messages up to one of them."""
    found: list[int] = []
    while until not in found:
        items: Items = await wire.items()
        found += [item["message"]["n"] for item in items if item["type"] == "message"]
    return found


@asynccontextmanager
async def publisher(service: Service) -> AsyncIterator[Callable[[], int]]:
    """Publish numbers over one connection, one after the other; yield what returns the last one that was accepted."""

    async def run() -> None:
        nonlocal last
        for number in count(1):
            body = {"user": "app", "channel": "a", "message": {"n": number}}
            status, _, answer = await wire.post("/message", body, service.running.sign("/message"))
            assert status == 200, answer
            last = number
            await asyncio.sleep(PAUSE_S)  # real time: the load.

    last = 0
    wire = await open_calls(service.running.port)
    publishing = asyncio.create_task(run())
    try:
        await soon(lambda: last > 0)
        yield lambda: last
    finally:
        publishing.cancel()
        ended = await asyncio.gather(publishing, return_exceptions=True)
        await wire.close()
    assert isinstance(ended[0], asyncio.CancelledError), ended


@pytest.fixture(params=["memory", "sqlite", "redis"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        address: str = request.getfixturevalue("redis").address
        return address
    return {"memory": "memory", "sqlite": f"sqlite:///{tmp_path}/state.db"}[request.param]


def test_clients_notice_nothing_of_an_upgrade(engine: str, start_service: Any) -> None:
    """Under load, and where it costs least twice: the same sockets get each message once, and the publisher's stays open."""
    service = start_service("--engine", engine, *ALL_EVENTS)

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            wires = [await service.stream(transport, stack) for transport in ("ws", "sse")]
            received = [asyncio.create_task(texts(wire, 0)) for wire in wires]
            async with publisher(service) as last:
                for _ in range(2 if engine == "memory" else 1):
                    before = last()
                    report = await service.upgrade()
                    assert (report.tally["websocket"], report.tally["sse"], report.tally["ended"]) == (
                        1,
                        1,
                        0,
                    )
                    await soon(lambda before=before: last() > before)  # type: ignore[misc]
                until = last()
            await service.post("/message", {"user": "app", "channel": "a", "message": {"n": 0}})
            for numbers in await asyncio.gather(*received):
                accepted = numbers[: numbers.index(until) + 1]
                assert accepted == list(range(1, until + 1))

    play(scenario())


def test_a_poll_that_waits_is_answered(start_service: Any) -> None:
    """With an empty list, as at its end; the next one on its connection goes to the new process."""
    service = start_service()

    async def scenario() -> None:
        conn_id = service.running.connect("ann", "a")
        wire = await open_wire("poll", service.running.port)
        ask = partial(wire._get, f"/listen?conn_id={conn_id}")
        ask()
        await service.upgrade()
        assert await wire.items() == []
        ask()
        await service.post("/message", {"user": "app", "channel": "a", "message": {"n": 1}})
        assert await texts(wire, 1) == [1]
        await wire.close()

    play(scenario())


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("dies=hello", r"has ended \(exit code 7\)"),
        ("dies=ready", r"has ended \(exit code 7\)"),
        ("snapshot=0", "another version of the state"),
    ],
)
def test_a_new_process_that_fails_changes_nothing(
    fault: str, reason: str, start_service: Any, faulty: Callable[[str], dict[str, str]]
) -> None:
    """Streams stay open, calls are answered, and one line of the log has the reason."""
    service = start_service(**faulty(fault))

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            wire = await service.stream("ws", stack)
            with pytest.raises(CannotHandOver, match=reason):
                await service.upgrade()
            await service.post("/message", {"user": "app", "channel": "a", "message": {"n": 1}})
            assert await texts(wire, 1) == [1]

    play(scenario())
    log = service.running.log()
    assert log.count("the upgrade has failed, and this process goes on: ") == 1
    assert service.running.process.poll() is None


@pytest.mark.parametrize("operation", ["replay", "users"])
def test_a_new_process_that_cannot_read_the_engine_changes_nothing(
    operation: str, redis: RedisServer, start_service: Any, faulty: Callable[[str], dict[str, str]]
) -> None:
    """It has started with the engine, and finds out that its reads fail while the old one can go on."""
    service = start_service("--engine", redis.address, **faulty(f"script={operation}"))

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            wires = [await service.stream("ws", stack)]
            with pytest.raises(CannotHandOver, match="the new process cannot read the engine"):
                await service.upgrade()
            wires.append(await service.stream("ws", stack))
            await service.post("/message", {"user": "app", "channel": "a", "message": {"n": 1}})
            assert [await texts(wire, 1) for wire in wires] == [[1]] * 2

    play(scenario())
    assert f"Redis has refused {operation}: " in service.running.log()


def test_the_port_of_metrics_is_that_of_the_process_that_serves(
    start_service: Any, faulty: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    """After an upgrade, and after one that failed."""
    with HeldPort() as held:
        url = f"http://127.0.0.1:{held.number}/metrics"
        service = start_service(f"--metrics-port={held.number}", **faulty("dies=ready"))

    async def scenario() -> None:
        with pytest.raises(CannotHandOver, match="exit code 7"):
            await service.upgrade()
        assert 'channelstream_upgrades_total{result="failed",worker="0"} 1.0' in http.get(url).text
        (tmp_path / "sitecustomize.py").unlink()
        await service.upgrade()
        assert service.running.process.wait(PATIENCE_S) == 0
        assert 'channelstream_upgrades_total{result="done",worker="0"} 1.0' in http.get(url).text

    play(scenario())


def test_one_upgrade_at_a_time(start_service: Any, faulty: Callable[[str], dict[str, str]]) -> None:
    """A second request is refused; a stop ends the first, and its new process."""
    service = start_service(**faulty("hangs=hello"))

    async def scenario() -> None:
        asked = [asyncio.create_task(service.upgrade()) for _ in range(2)]
        [refused], [first] = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        with pytest.raises(CannotHandOver, match="an upgrade is under way"):
            await refused
        service.running.process.send_signal(signal.SIGTERM)
        with pytest.raises(PeerEnded, match="the server stops"):
            await first

    play(scenario())
    # A second signal, once the handlers are gone, would kill the process.
    service.running.process.wait(PATIENCE_S)
    code, log = service.running.stop()
    assert (code, "Traceback" in log) == (0, False), log


def test_a_process_that_still_continues_streams_is_not_upgraded(
    start_service: Any, faulty: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    """What it has not continued would be in no snapshot."""
    waits = tmp_path / "waits"
    service = start_service(**faulty("waits=attached"))

    async def scenario() -> None:
        first = asyncio.create_task(service.upgrade())
        await soon(waits.exists)
        with pytest.raises(CannotHandOver, match="it has not continued all streams"):
            await service.upgrade()
        waits.unlink()
        await first

    play(scenario())


def test_a_configuration_that_is_wrong_keeps_the_old_process(start_service: Any, tmp_path: Path) -> None:
    """The command prints the option, and exits with 1."""
    file = tmp_path / "settings.ini"
    file.write_text("[channelstream]\nlog_events = 100\n")
    service = start_service("-i", str(file))
    file.write_text("[channelstream]\nlog_events = many\n")
    ended = nursery().run(["upgrade", "-p", str(service.running.port)], {})
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "goes on as before: log_events: 'many'" in ended.stderr
    service.running.request("GET", "/info").raise_for_status()
    _, log = service.running.stop()
    assert log.count("log_events: 'many'") == 1


@pytest.mark.parametrize("step", ["ready", "attached"])
def test_a_key_that_is_taken_away_in_an_upgrade_is_refused(
    step: str, start_service: Any, faulty: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    """SIGHUP reaches the old process, before it commits or after it; the new one has read the file before."""
    file, waits = tmp_path / "keys.json", tmp_path / "waits"
    web = {"id": "web", "secret": SECRET, "rights": ["info"]}
    file.touch(0o600)
    file.write_text(json.dumps({"keys": [web]}))
    service = start_service("--keys-file", str(file), **faulty(f"waits={step}"))
    bearer = {"authorization": f"Bearer web.{SECRET}"}

    def status() -> int:
        return http.post(f"{service.running.url}/info", headers=bearer).status_code

    async def scenario() -> None:
        assert status() == 200
        upgrading = asyncio.create_task(service.upgrade())
        await soon(waits.exists)
        file.write_text(json.dumps({"keys": []}))
        service.running.process.send_signal(signal.SIGHUP)
        waits.unlink()
        await upgrading
        await soon(lambda: status() == 401, "the key is accepted")

    play(scenario())


def test_a_process_that_reads_no_file_any_more_is_not_ended_in_an_upgrade(
    start_service: Any, faulty: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    """SIGHUP reaches the old process, which has a file to read and passes it on."""
    file, keys, waits = tmp_path / "settings.ini", tmp_path / "keys.json", tmp_path / "waits"
    keys.touch(0o600)
    keys.write_text('{"keys": []}')
    file.write_text(f"[channelstream]\nkeys_file = {keys}\n")
    service = start_service("-i", str(file), **faulty("waits=attached"))
    file.write_text("[channelstream]\n")

    async def scenario() -> None:
        upgrading = asyncio.create_task(service.upgrade())
        await soon(waits.exists)
        service.running.process.send_signal(signal.SIGHUP)
        await soon(lambda: "the files with keys and secrets are read" in service.running.log())
        waits.unlink()
        await upgrading
        assert await service.post("/info", {"info": {}})

    play(scenario())


def mainpid(manager: socket.socket) -> int:
    """Wait until a service manager learns another process; neither one has stopped."""
    while True:
        state = manager.recv(1000).decode()
        assert state != STOPPING
        if state.startswith("MAINPID="):
            return int(state.partition("=")[2])


def test_the_command_and_the_signal_upgrade(start_service: Any, tmp_path: Path) -> None:
    """The service manager learns the new process each time; a signal that comes during an upgrade changes nothing."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(PATIENCE_S)
        manager.bind(str(tmp_path / "notify.sock"))
        file = tmp_path / "settings.ini"
        file.write_text("[channelstream]\n")
        service = start_service("-i", str(file), **{ADDRESS: manager.getsockname()})
        file.write_text("[channelstream]\nmetrics_port = 1\n")
        ended = nursery().run(["upgrade", "-p", str(service.running.port)], {})
        assert (ended.returncode, ended.stderr) == (0, "")
        service.pids.append(mainpid(manager))
        first, second, _, last = ended.stdout.splitlines()
        assert first.endswith(f": process {service.pids[0]} serves")
        assert second.startswith("handed over: ")
        assert last == "an upgrade does not change metrics_port from 0 to 1: restart the service for that"
        assert service.running.process.wait(PATIENCE_S) == 0
        os.kill(service.pids[0], signal.SIGUSR2)
        os.kill(service.pids[0], signal.SIGUSR2)
        service.pids.append(mainpid(manager))
        scrape = http.get(f"{service.running.url}/metrics", auth=("admin", service.running.admin_secret))
        assert 'channelstream_upgrades_total{result="done",worker="0"} 2.0' in scrape.text
        os.kill(service.pids[1], signal.SIGTERM)
        while manager.recv(1000).decode() != STOPPING:
            pass


def test_workers_are_upgraded_one_after_the_other(redis: RedisServer, start_service: Any) -> None:
    """Streams and the publisher's connection stay open. Their parent stays the same process, and replaces a dead one."""
    service = start_service("--engine", redis.address, "--workers", "2", *ALL_EVENTS)
    parent = service.running.process.pid
    workers = children(parent)

    def has_new_ones(than: set[int]) -> bool:
        now = children(parent)
        return len(now) == 2 and not now & than

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            wires = [await service.stream(transport, stack) for transport in ("ws", "sse", "ws", "sse")]
            received = [asyncio.create_task(texts(wire, 0)) for wire in wires]
            async with publisher(service) as last:
                before = last()
                report = await service.upgrade()
                assert (report.pid, report.tally["websocket"], report.tally["sse"]) == (parent, 2, 2)
                await soon(lambda: last() > before)
                until = last()
            await service.post("/message", {"user": "app", "channel": "a", "message": {"n": 0}})
            for numbers in await asyncio.gather(*received):
                assert numbers[: numbers.index(until) + 1] == list(range(1, until + 1))
        await soon(lambda: has_new_ones(workers))
        killed = min(children(parent))
        os.kill(killed, signal.SIGKILL)
        await soon(lambda: has_new_ones({killed}))

    play(scenario())
    code, log = service.running.stop()
    assert (code, "Traceback" in log) == (0, False), log


def test_workers_that_read_no_file_again_any_more_are_upgraded(
    redis: RedisServer, start_service: Any, tmp_path: Path
) -> None:
    """SIGHUP ends them, so they are sent none: the configuration names no file with keys any more.

    One line of the log says what else of the configuration takes a restart.
    """
    file, keys = tmp_path / "settings.ini", tmp_path / "keys.json"
    keys.touch(0o600)
    keys.write_text('{"keys": []}')
    file.write_text(f"[channelstream]\nkeys_file = {keys}\n")
    service = start_service("-i", str(file), "--engine", redis.address, "--workers", "2")
    file.write_text("[channelstream]\nmetrics_port = 1\n")
    not_changed = "an upgrade does not change metrics_port from 0 to 1: restart the service for that"

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            wires = [await service.stream("ws", stack) for _ in range(4)]
            report = await service.upgrade()
            assert (report.tally["websocket"], report.not_changed) == (4, not_changed)
            await service.post("/message", {"user": "app", "channel": "a", "message": {"n": 1}})
            assert [await texts(wire, 1) for wire in wires] == [[1]] * 4

    play(scenario())
    code, log = service.running.stop()
    assert (code, "has ended" in log, log.count(not_changed)) == (0, False, 1), log


@pytest.mark.parametrize("asked", [1, 3])
def test_a_parent_keeps_the_number_of_its_workers(
    redis: RedisServer,
    start_service: Any,
    faulty: Callable[[str], dict[str, str]],
    tmp_path: Path,
    asked: int,
) -> None:
    """Its configuration may have another one since the last worker has read it. One that has ended is replaced."""
    file, waits = tmp_path / "settings.ini", tmp_path / "waits"
    file.write_text("[channelstream]\nworkers = 2\n")
    service = start_service("-i", str(file), "--engine", redis.address, **faulty("waits=begun"))
    parent = service.running.process.pid

    async def scenario() -> None:
        upgrading = asyncio.create_task(service.upgrade())
        await soon(waits.exists)
        [first] = [pid for pid in children(parent) if children(pid)]
        waits.unlink()
        await soon(lambda: first not in children(parent))
        await soon(waits.exists)
        file.write_text(f"[channelstream]\nworkers = {asked}\n")
        waits.unlink()
        assert (await upgrading).pid == parent
        killed = min(children(parent))
        os.kill(killed, signal.SIGKILL)
        await soon(lambda: len(children(parent) - {killed}) == 2)

    play(scenario())
    code, log = service.running.stop()
    assert (code, log.count("an upgrade does not change workers"), "Traceback" in log) == (0, 1, False), log


def test_a_worker_that_cannot_be_upgraded_goes_on(
    redis: RedisServer, start_service: Any, faulty: Callable[[str], dict[str, str]]
) -> None:
    """And so do the others and their parent."""
    service = start_service("--engine", redis.address, "--workers", "2", **faulty("dies=ready"))
    workers = children(service.running.process.pid)

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            wires = [await service.stream("ws", stack) for _ in range(4)]
            with pytest.raises(CannotHandOver, match=r"exit code 7.*\(0 of 2 workers upgraded\)"):
                await service.upgrade()
            await service.post("/message", {"user": "app", "channel": "a", "message": {"n": 1}})
            assert [await texts(wire, 1) for wire in wires] == [[1]] * 4

    play(scenario())
    assert children(service.running.process.pid) == workers


def test_a_worker_that_is_killed_after_it_has_handed_over_ends_the_upgrade(
    redis: RedisServer, start_service: Any, faulty: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    """At once: it cannot report any more. The new process serves in its place, and the next upgrade succeeds."""
    service = start_service("--engine", redis.address, "--workers", "2", **faulty("waits=begun"))
    parent = service.running.process.pid

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            wires = [await service.stream("ws", stack) for _ in range(4)]
            asked = asyncio.create_task(service.upgrade())
            await soon((tmp_path / "waits").exists)
            [killed] = [pid for pid in children(parent) if children(pid)]
            os.kill(killed, signal.SIGKILL)
            (tmp_path / "sitecustomize.py").unlink()
            (tmp_path / "waits").unlink()
            with pytest.raises(CannotHandOver, match=f"worker {killed} has ended, and a new process serves"):
                await asked
            await soon(lambda: len(children(parent)) == 2)
            await service.upgrade()
            await service.post("/message", {"user": "app", "channel": "a", "message": {"n": 1}})
            assert [await texts(wire, 1) for wire in wires] == [[1]] * 4

    play(scenario())


def test_the_command_finds_no_server() -> None:
    """It says where it has looked, and exits with 1."""
    ended = nursery().run(["upgrade", "-p", "1"], {})
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "no server runs at http://127.0.0.1:1 that you may upgrade. " in ended.stderr
