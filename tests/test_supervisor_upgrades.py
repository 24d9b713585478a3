"""The parent of the workers and a worker in an upgrade: what each does when another process does not answer or ends."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import cast
from uuid import uuid4

import pytest
from tests.processes import links
from tests.waiting import PATIENCE_S

from channelstream.config import Settings
from channelstream.errors import CannotHandOver
from channelstream.lifecycle import Server
from channelstream.supervisor import VARIABLE, worker
from channelstream.supervisor.renewal import Kept, Renewal, summed
from channelstream.supervisor.supervisor import Supervisor
from channelstream.supervisor.worker import ALIVE, SERVING, UPGRADE, UPGRADED, attend, received, succeed
from channelstream.upgrade.control import PROCESS_S, name_of
from channelstream.upgrade.line import Line
from channelstream.upgrade.messages import Failure, Report, kept_options


@pytest.mark.parametrize("goes_on", [True, False])
def test_no_upgrade_begins_while_a_worker_is_missing(goes_on: bool) -> None:
    """The one who asks is answered with the reason, and whether the service goes on."""
    supervisor = Supervisor(Settings(workers=2), [])
    supervisor._code = None if goes_on else 0
    ours, theirs = Line.pair()
    supervisor._upgrade(theirs)
    failure = Failure.of(asyncio.run(ours.receive()))
    assert failure.reason.startswith("another upgrade, the start of a worker")
    assert failure.goes_on == goes_on
    ours.close()


@pytest.mark.parametrize("goes_on", [True, False])
def test_who_asks_is_informed_whether_the_service_goes_on(
    goes_on: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be stopped meanwhile."""
    supervisor = Supervisor(Settings(workers=2), [])
    ours, theirs = Line.pair()
    supervisor._renewal = Renewal(list(supervisor._slots), 0.0, theirs)
    supervisor._code = None if goes_on else 0
    supervisor._give_up("worker 7 has ended")
    assert Failure.of(asyncio.run(ours.receive())).goes_on == goes_on
    assert f"the service {'goes on' if goes_on else 'stops'}: worker 7" in caplog.text
    ours.close()


def test_a_parent_finds_what_its_last_program_has_kept() -> None:
    """In the environment, from which it is removed; the descriptors are not inherited by workers."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        os.set_inheritable(reserved.fileno(), True)
        kept = Kept(
            slots=[(0, 7, reserved.fileno()), None],
            reserved=[reserved.fileno()],
            for_scrapers=[],
            directory=None,
            **kept_options(Settings(port=1)),
            retiring=[8],
            requester=None,
            report=Report("1", "2", 9, {}, 0.5, 0.6),
        )
        environ = {VARIABLE: str(kept.written()), "A": "1"}
        assert Kept.inherited(environ) == kept
        assert (environ, os.get_inheritable(reserved.fileno())) == ({"A": "1"}, False)
    assert Kept.inherited(environ) is None


def test_a_parent_keeps_its_sockets_and_who_has_not_ended() -> None:
    """Its next program waits for the processes that have handed over, as this one does."""
    retiring = subprocess.Popen(["sleep", "infinity"])
    before, after = (
        Supervisor(Settings(workers=2, unix_socket=f"/nowhere/{uuid4()}", keys_file="keys.json"), [])
        for _ in range(2)
    )
    with (
        socket.create_server(("127.0.0.1", 0)) as reserved,
        socket.create_server(("127.0.0.1", 0)) as for_scrapers,
    ):
        before._reserved, before._for_scrapers = [reserved], [for_scrapers]
        before._retire(retiring.pid)
        kept = before._kept(Renewal([], 0.0, None, [Report("1", "2", 9, {}, 0.5, 0.6)]))
        assert (kept.reserved, kept.for_scrapers) == ([reserved.fileno()], [for_scrapers.fileno()])
    after.resume(kept)
    assert after._retiring == {retiring.pid}
    # It starts a worker where the last one has ended meanwhile.
    assert [slot.due_s is None for slot in after._slots] == [False, False]
    retiring.kill()
    retiring.wait()
    assert after._requests is not None
    after._requests.close()


def test_a_worker_that_does_not_answer_ends_the_upgrade() -> None:
    """The others are not asked, and its late answer is taken as that of a new process."""
    supervisor = Supervisor(Settings(workers=2), [])
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    requester, asked = Line.pair()
    supervisor._has_served = True
    for slot in supervisor._slots:
        slot.is_serving, slot.line, slot.pid = True, ours, 7
    supervisor._upgrade(asked)
    assert theirs.recv(10) == UPGRADE
    renewal = supervisor._renewal
    assert renewal is not None
    assert supervisor._timeout_s() == pytest.approx(PROCESS_S, abs=60)
    supervisor._give_up("worker 7 does not answer")
    assert Failure.of(asyncio.run(requester.receive())).reason.endswith("(0 of 2 workers upgraded)")
    supervisor._renewed(supervisor._slots[0], Report("1", "2", 7, {}, 0.1, 0.2))
    assert supervisor._renewal is None
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        theirs.recv(10)
    for each in (ours, theirs, requester):
        each.close()


@pytest.mark.parametrize("has_reported", [True, False])
def test_a_worker_that_ends_after_it_has_handed_over(has_reported: bool) -> None:
    """Its report counts, also if its end is noticed first. Without one the upgrade has failed."""
    supervisor = Supervisor(Settings(workers=2), [])
    asked: list[Renewal] = []
    supervisor._ask = asked.append  # type: ignore[method-assign]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    slot, other = supervisor._slots
    old, new = subprocess.Popen(["sleep", "infinity"]), subprocess.Popen(["sleep", "infinity"])
    supervisor._attend(slot, old.pid, ours)
    supervisor._renewal = renewal = Renewal([slot, other], time.monotonic() + 2 * PATIENCE_S, None)
    theirs.send(SERVING + str(new.pid).encode())
    theirs.send(ALIVE + str(new.pid).encode())
    if has_reported:
        theirs.send(UPGRADED + Report("1", "2", new.pid, {}, 0.1, 0.2).part("").body)
    supervisor._receive(slot, ours)
    old.kill()
    while supervisor._renewal is not None and not asked:
        # The end first, as soon as it is there; one message for each time.
        ready = sorted(supervisor._selector.select(PATIENCE_S), key=lambda each: each[0].fileobj is ours)
        assert ready, "the upgrade waits for a report that does not come"
        for key, _ in ready:
            key.data()
        supervisor._check(renewal)
    assert (renewal.waiting, len(renewal.reports)) == (([other], 1) if has_reported else ([slot, other], 0))
    assert (supervisor._renewal, asked) == ((renewal, [renewal]) if has_reported else (None, []))
    assert (slot.pid, slot.is_serving) == (new.pid, True)
    new.kill()
    for process in (old, new):
        process.wait()
    for each in (ours, theirs):
        each.close()


def test_a_worker_that_an_earlier_upgrade_renews_late_does_not_end_this_one() -> None:
    """That one was given up, as the worker did not answer; this one has asked another worker."""
    supervisor = Supervisor(Settings(workers=2), [])
    asked, late = supervisor._slots
    with subprocess.Popen(["sleep", "infinity"]) as old:
        late.pid = old.pid
        supervisor._renewal = renewal = Renewal([asked, late], time.monotonic() + 2 * PATIENCE_S, None)
        supervisor._serves(late, os.getpid())
        old.kill()
        while supervisor._retiring:
            for key, _ in supervisor._selector.select(PATIENCE_S):
                key.data()
    assert renewal.ended == 0


def test_a_worker_that_has_just_ended_is_not_asked() -> None:
    """The parent goes on, and notices the end of the worker at its line."""
    supervisor = Supervisor(Settings(workers=2), [])
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for slot in supervisor._slots:
        slot.is_serving, slot.line = True, ours
    theirs.close()
    supervisor._upgrade()
    assert received(ours) == b""
    ours.close()


class Refusing:
    """What a worker upgrades and stops: an upgrade fails, and its parent dies meanwhile."""

    def __init__(self, parent: socket.socket) -> None:
        self.siblings = SimpleNamespace(are_orphans=False)
        self.monitoring = SimpleNamespace(scraper=SimpleNamespace(siblings=self.siblings))
        self.has_stopped = asyncio.Event()
        self.stop = self.has_stopped.set
        self._parent = parent

    async def upgrade(self) -> Report:
        self._parent.close()
        raise CannotHandOver("refused")


def test_a_worker_stops_whose_parent_dies_while_it_upgrades() -> None:
    """It cannot answer, and reads the end of its line as soon as the upgrade has failed."""

    async def play() -> None:
        parent, line = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        server = Refusing(parent)
        with line:
            attend(line, cast(Server, server))
            assert received(parent).startswith(SERVING)
            parent.send(UPGRADE)
            async with asyncio.timeout(PATIENCE_S):
                await server.has_stopped.wait()
        assert server.siblings.are_orphans

    asyncio.run(play())


def test_a_worker_shows_life_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the parent, from the moment at which it serves."""
    monkeypatch.setattr(worker, "ALIVE_S", 0.0)

    async def play() -> None:
        parent, line = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with parent, line:
            attend(line, cast(Server, Refusing(parent)))
            messages = [await asyncio.to_thread(received, parent) for _ in range(4)]
        pid = str(os.getpid()).encode()
        assert messages == [SERVING + pid, *[ALIVE + pid] * 3]

    asyncio.run(play())


def test_a_worker_shows_life_while_it_takes_over() -> None:
    """It serves later; if it hangs before that, nothing else ends it."""

    async def play() -> None:
        parent, line = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        server = cast(Server, Refusing(parent))
        pid = str(os.getpid()).encode()
        with parent, line:
            succeed(line, server)
            assert received(parent) == ALIVE + pid
            server.on_started()
            assert received(parent) == SERVING + pid

    asyncio.run(play())


def test_a_worker_stops_whose_parent_is_dead_before_it_serves(caplog: pytest.LogCaptureFixture) -> None:
    """As that of a process that takes over: it has the streams already, and ends them as a stop does."""

    async def play() -> None:
        parent, line = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        server = Refusing(parent)
        parent.close()
        with line:
            attend(line, cast(Server, server))
            async with asyncio.timeout(PATIENCE_S):
                await server.has_stopped.wait()
        assert server.siblings.are_orphans

    asyncio.run(play())
    assert "the parent of the workers has ended" in caplog.text


def test_a_parent_whose_program_is_missing_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers who has asked, and the next one who asks by the command or by SIGUSR2."""
    settings = Settings(workers=2, unix_socket=f"/nowhere/{uuid4()}")
    supervisor = Supervisor(settings, [])
    supervisor._listen_for_requests()
    requester, asked = Line.pair()
    renewal = Renewal([], 0.0, asked, [Report("1", "2", 7, {}, 0.1, 0.2)])
    supervisor._renewal = renewal
    caught = signal.getsignal(signal.SIGUSR2)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    supervisor._renew(renewal)
    assert "the parent is not" in Failure.of(asyncio.run(requester.receive())).reason
    requester.close()
    assert signal.getsignal(signal.SIGUSR2) is caught
    assert not [each for each in links(os.getpid()) if "memfd:channelstream" in each]
    assert supervisor._requests is not None
    with socket.socket(socket.AF_UNIX) as command:
        command.connect(name_of(settings))
    [(key, _)] = supervisor._selector.select(PATIENCE_S)
    assert key.fileobj is supervisor._requests
    supervisor._requests.close()


REPLACED = """
import os, signal
from channelstream.config import Settings
from channelstream.supervisor import VARIABLE
from channelstream.supervisor.renewal import Renewal
from channelstream.supervisor.supervisor import Supervisor
from channelstream.upgrade.messages import Report

settings = Settings(workers=2)
supervisor = Supervisor(settings, [])
if VARIABLE not in os.environ:
    supervisor._renew(Renewal([], 0.0, None, [Report("1", "2", 9, {}, 0.5, 0.6)]))
os.kill(os.getpid(), signal.SIGTERM)
supervisor._catch_signals()
for key, _ in supervisor._selector.select():
    key.data()
print("stops with", supervisor._code)
"""


def test_a_parent_that_replaces_its_program_is_stopped_by_the_new_one() -> None:
    """A signal that comes before the new program catches it waits: by default it would kill the parent at once."""
    ended = subprocess.run(
        [sys.executable, "-c", REPLACED], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "stops with 0\n"), ended.stderr


HUNG_UP = """
import os, signal
from channelstream.config import Settings
from channelstream.supervisor import VARIABLE
from channelstream.supervisor.renewal import Renewal
from channelstream.supervisor.supervisor import Supervisor
from channelstream.upgrade.messages import Report

Supervisor._signal_workers = lambda parent, number: print("workers get", number.name)
supervisor = Supervisor(Settings(workers=2, keys_file="keys.json"), [])
if VARIABLE not in os.environ:
    supervisor._catch_signals()
    supervisor._renew(Renewal([], 0.0, None, [Report("1", "2", 9, {}, 0.5, 0.6)]))
os.kill(os.getpid(), signal.SIGHUP)
supervisor._catch_signals()
for key, _ in supervisor._selector.select(1):
    key.data()
"""


def test_keys_that_change_while_a_parent_replaces_its_program_are_read() -> None:
    """The signal waits for the new program, which passes it on to the workers: a key may have been taken away."""
    ended = subprocess.run(
        [sys.executable, "-c", HUNG_UP], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "workers get SIGHUP\n"), ended.stderr


HUNG = """
from channelstream.config import Settings
from channelstream.supervisor.renewal import Renewal
from channelstream.supervisor.slot import WorkerSlot
from channelstream.supervisor.supervisor import Supervisor

def give_up(reason):
    print(reason)
    supervisor._renewal, supervisor._code = None, 0

supervisor = Supervisor(Settings(workers=2), [])
supervisor._has_served, supervisor._give_up = True, give_up
supervisor._renewal = Renewal([WorkerSlot(pid=7)], 0.0, None)
supervisor.run()
"""


def test_a_parent_waits_for_no_worker_that_hangs() -> None:
    """It has its time, and then the upgrade has failed."""
    ended = subprocess.run(
        [sys.executable, "-c", HUNG], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "worker 7 does not answer\n"), ended.stderr


ENDLESS = """
import os, signal, socket
from channelstream.config import Settings
from channelstream.supervisor.supervisor import Supervisor

supervisor = Supervisor(Settings(workers=2), [])
supervisor._has_served = True
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if not (pid := os.fork()):
    signal.pause()
theirs.close()
retiring = os.fork()
if not retiring:
    signal.pause()
supervisor._attend(supervisor._slots[0], pid, ours)
supervisor._retire(retiring)
supervisor._stop(0)
supervisor._deadline_s = 0.0
print("ends with", supervisor.run())
"""


def test_a_worker_that_does_not_end_is_killed() -> None:
    """At the end of the drain's time, as is a process that has handed over; the exit code says that not all went well."""
    ended = subprocess.run(
        [sys.executable, "-c", ENDLESS], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "ends with 1\n"), ended.stderr


STOPPED = """
import os, signal
from channelstream.config import Settings
from channelstream.supervisor.renewal import Kept, Renewal
from channelstream.supervisor.supervisor import Supervisor
from channelstream.upgrade.messages import Report

Kept.run_new_program = lambda kept: print("replaced")
supervisor = Supervisor(Settings(workers=2), [])
supervisor._catch_signals()
os.kill(os.getpid(), signal.SIGTERM)
supervisor._renew(Renewal([], 0.0, None, [Report("1", "2", 9, {}, 0.5, 0.6)]))
print("stops with", supervisor._code, signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""


def test_a_parent_that_was_stopped_does_not_replace_its_program() -> None:
    """Also where the signal has not had its turn: the new program would not get it."""
    ended = subprocess.run(
        [sys.executable, "-c", STOPPED], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "stops with 0 set()\n"), ended.stderr


def test_the_report_of_a_service_has_all_workers() -> None:
    """All streams are served again when the one that took longest serves its own."""
    reports = [
        Report("1", "2", 7, {"sse": 1, "http": 2}, 0.2, 0.3),
        Report("1", "2", 8, {"sse": 3}, 0.1, 0.4),
    ]
    assert summed(reports) == Report("1", "2", os.getpid(), {"sse": 4, "http": 2}, 0.2, 0.4)
    late = Report("1", "2", 9, {}, 0.1, None)
    assert summed([*reports, late]).streams_s is None
