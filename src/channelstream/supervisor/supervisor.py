"""The parent of the workers."""

import logging
import os
import select
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

from channelstream import logs, service_manager
from channelstream.config import Settings
from channelstream.config.listening import announcements
from channelstream.errors import CannotHandOver
from channelstream.integrations.metrics.siblings import Worker
from channelstream.supervisor.renewal import Kept, Renewal, adopt_orphans, forget_orphans, summed
from channelstream.supervisor.slot import MAX_SILENT_LOOKS, WorkerSlot
from channelstream.supervisor.worker import ALIVE, KEPT, SERVING, UPGRADE, UPGRADED, received, work
from channelstream.upgrade import control
from channelstream.upgrade.line import BlockingLine, Line, Part
from channelstream.upgrade.messages import FAILED as NOT_UPGRADED
from channelstream.upgrade.messages import REPORT, Failure, Report, kept_options
from channelstream.upgrade.successor import take_name

SPARE_S = 10.0
"""Seconds besides twice the drain's time after which workers are killed."""
STOPPING = (signal.SIGTERM, signal.SIGINT)
WAITING = (*STOPPING, signal.SIGHUP)
"""Signals that wait while this process replaces its program; SIGUSR2 does nothing then, until the new one starts."""
CAUGHT = (*WAITING, signal.SIGUSR2)
"""SIGHUP only where files are read again (`Settings.reads_again`). Else it ends the process, as a closed terminal does;
after an upgrade it is ignored."""
FAILED = 1
STOPPED = (0, -signal.SIGTERM, -signal.SIGHUP)
"""Exit codes of workers that have stopped: what is passed on to one that no longer catches it ends it a little earlier."""
LOOK_S = 5.0
"""Time between two looks at the workers, in seconds."""
REQUEST_S = 1.0
"""How long this process waits for a request to upgrade whose connection is there, or for room for its answer."""

logger = logging.getLogger(__name__)


class Supervisor:
    """Keeps a worker in every slot, until a signal arrives or a worker cannot start."""

    def __init__(
        self,
        settings: Settings,
        reserved: list[socket.socket],
        directory: Path | None = None,
        for_scrapers: Iterable[socket.socket] = (),
    ) -> None:
        """Create a supervisor without workers.

        Args:
            reserved: the bound sockets of the port.
            directory: of the sockets on which workers ask each other.
            for_scrapers: the bound sockets of `metrics_port`.
        """
        self._settings = settings
        self._reserved = reserved
        self._directory = directory
        self._for_scrapers = list(for_scrapers)
        self._slots = [WorkerSlot(number) for number in range(settings.workers)]
        self._has_served = False
        self._code: int | None = None
        self._deadline_s = self._look_s = 0.0
        self._selector = selectors.DefaultSelector()
        self._renewal: Renewal | None = None
        self._retiring: set[int] = set()
        self._requests: socket.socket | None = None
        self._read_signals: Callable[[], None] = lambda: None

    def run(self) -> int:
        """Run until the last worker has ended; return the exit code."""
        self._catch_signals()
        adopt_orphans()
        if not self._has_served:
            # The others wait for the first, so that a fault of all is reported once.
            self._slots[0].due_s = time.monotonic()
        while self._code is None or self._retiring or any(slot.pid for slot in self._slots):
            for key, _ in self._selector.select(self._timeout_s()):
                act: Callable[[], None] = key.data
                act()
            if self._renewal is not None:
                self._check(self._renewal)
            if self._renewal is None:
                # Not while there are new processes that have not said that they serve.
                forget_orphans({slot.pid for slot in self._slots} | self._retiring)
            if self._code is None:
                self._look(time.monotonic())
                self._fill()
            elif time.monotonic() > self._deadline_s:
                self._signal_workers(signal.SIGKILL)
        return self._code

    def _timeout_s(self) -> float | None:
        """Return the seconds until the next deadline; None if there is none."""
        due = [slot.due_s for slot in self._slots if slot.due_s is not None]
        if any(slot.silent_looks is not None for slot in self._slots):
            due.append(self._look_s)
        if self._code is not None:
            due = [self._deadline_s]
        if self._renewal is not None:
            due.append(self._renewal.due_s)
        return max(0.0, min(due) - time.monotonic()) if due else None

    # -- starting

    def _fill(self) -> None:
        now_s = time.monotonic()
        for slot in self._slots:
            if slot.due_s is not None and slot.due_s <= now_s:
                self._start(slot, now_s)

    def _start(self, slot: WorkerSlot, now_s: float) -> None:
        """Fork a worker, which leaves by SystemExit or ConfigError and never returns; if the system refuses, try later."""
        slot.started_s = now_s
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            _start_later(slot, now_s, error)
            return
        # A signal in between would be written by the child to the parent's wakeup socket.
        signal.pthread_sigmask(signal.SIG_BLOCK, CAUGHT)
        try:
            pid = os.fork()
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, CAUGHT)
            ours.close()
            theirs.close()
            _start_later(slot, now_s, error)
            return
        if not pid:
            ours.close()
            self._forget_parent()
            worker = Worker(self._directory, slot.number, len(self._slots))
            sys.exit(work(self._settings, self._reserved, self._for_scrapers, theirs, worker))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, CAUGHT)
        theirs.close()
        self._attend(slot, pid, ours)

    def _attend(self, slot: WorkerSlot, pid: int, line: socket.socket) -> None:
        slot.pid, slot.line, slot.due_s = pid, line, None
        self._selector.register(line, selectors.EVENT_READ, partial(self._receive, slot, line))

    def _forget_parent(self) -> None:
        """In a new worker, close the parent's files: an open socket pair would hide its death from the others."""
        signal.set_wakeup_fd(-1)
        for number in (*STOPPING, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        for number in self._passed:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, CAUGHT)
        self._selector.close()
        requester = self._renewal.requester if self._renewal else None
        for each in (*(slot.line for slot in self._slots), self._requests, requester):
            if each is not None:
                each.close()

    def _receive(self, slot: WorkerSlot, line: socket.socket) -> None:
        message = received(line)
        match message[:1]:
            case b"":
                self._lose(slot, line)
            case kind if kind == SERVING:
                self._serves(slot, int(message[1:]))
            case kind if kind == ALIVE and int(message[1:]) == slot.pid:
                slot.silent_looks = 0
            case kind if kind == UPGRADED:
                self._renewed(slot, Report.of(Part(REPORT, message[1:])))
            case kind if kind == KEPT:
                self._give_up(Failure.of(Part(NOT_UPGRADED, message[1:])).reason)

    def _serves(self, slot: WorkerSlot, pid: int) -> None:
        """Notice that a worker serves: the one that was started, or the one to which it has handed over."""
        if pid != slot.pid:
            self._retire(slot.pid, slot)
            # It shows life since before it took over.
            slot.pid, slot.started_s, slot.silent_looks = pid, time.monotonic(), 0
            if self._settings.reads_again:
                # One that was sent to the process before it may have come too late there.
                os.kill(pid, signal.SIGHUP)
        slot.is_serving = True
        self._start_others()

    def _lose(self, slot: WorkerSlot, line: socket.socket) -> None:
        """Notice the end of a worker."""
        if self._renewal is not None and slot in self._renewal.waiting:
            self._give_up(f"worker {slot.pid} has ended")
        self._selector.unregister(line)
        line.close()
        self._ended(slot, _exit_code(slot.pid))

    def _look(self, now_s: float) -> None:
        """Kill the workers that have shown no life for long, if a look is due; they are replaced as any dead one."""
        if now_s < self._look_s:
            return
        self._look_s = now_s + LOOK_S
        for slot in self._slots:
            if slot.look():
                logger.error("worker %d has hung for %g s and is killed", slot.pid, MAX_SILENT_LOOKS * LOOK_S)
                slot.silent_looks = None
                os.kill(slot.pid, signal.SIGKILL)

    def _start_others(self) -> None:
        """Start the other workers once the first one serves; log it once all serve."""
        if self._has_served:
            return
        for slot in self._slots:
            if not slot.pid:
                slot.due_s = time.monotonic()
        if all(slot.is_serving for slot in self._slots):
            self._has_served = True
            # Before it is known where this service runs: then it may be asked to upgrade.
            self._listen_for_requests()
            where, *pages = announcements(self._settings)
            for line in (f"{len(self._slots)} workers {where}", *pages):
                logger.info("%s", line)
            service_manager.notify(service_manager.READY)

    # -- upgrading

    def resume(self, kept: Kept) -> None:
        """Take the workers that the program of this process before this one has left, and answer who asked for it."""
        self._has_served = True
        if not self._settings.reads_again:
            # It may wait, since the program before this one has caught it.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for slot, worker in zip(self._slots, kept.slots, strict=True):
            slot.started_s = time.monotonic()
            if worker is None:
                slot.due_s = slot.started_s
                continue
            _, pid, descriptor = worker
            take_name(pid)  # The workers have the name that this process had.
            slot.is_serving, slot.silent_looks = True, 0
            self._attend(slot, pid, socket.socket(fileno=descriptor))
        for pid in kept.retiring:
            self._retire(pid)
        self._listen_for_requests()
        logger.info("all workers are upgraded: %s", kept.report.line)
        if kept.requester is not None:
            _answer(Line(socket.socket(fileno=kept.requester)), kept.report.part(REPORT))

    def _listen_for_requests(self) -> None:
        self._requests = control.listening_at(self._settings)
        if self._requests is not None:
            self._selector.register(
                self._requests, selectors.EVENT_READ, partial(self._asked, self._requests)
            )

    def _asked(self, listening: socket.socket) -> None:
        """Answer a request to upgrade, whose bytes are there or come at once: only this user and root are answered."""
        try:
            accepted, _ = listening.accept()
        except OSError:  # This process may open no more descriptors.
            time.sleep(control.PAUSE_S)
            return
        if not control.may_ask(accepted):
            accepted.close()
            return
        requester = BlockingLine(accepted, REQUEST_S)
        try:
            kind = requester.run(requester.receive()).kind
        except CannotHandOver:  # Not in time.
            kind = ""
        if kind == control.UPGRADE:
            self._upgrade(requester)
        else:
            _answer(requester, Failure("this version does not know the request").part(NOT_UPGRADED))

    def _upgrade(self, requester: Line | None = None) -> None:
        """Begin to upgrade, if no worker is missing."""
        if (
            self._renewal is not None
            or self._code is not None
            or not all(slot.is_serving for slot in self._slots)
        ):
            reason = "another upgrade, the start of a worker or a stop is under way"
            logger.error("no upgrade: %s", reason)
            if requester is not None:
                _answer(requester, Failure(reason, goes_on=self._code is None).part(NOT_UPGRADED))
            return
        logger.info("upgrading %s, one after the other", logs.counted(len(self._slots), "worker"))
        self._renewal = Renewal(list(self._slots), 0.0, requester)
        self._ask(self._renewal)

    def _ask(self, renewal: Renewal) -> None:
        """Ask the next worker."""
        renewal.ended = 0
        renewal.due_s = time.monotonic() + control.process_patience_s(self._settings)
        line = renewal.waiting[0].line
        if line is not None:
            # To a worker that has just ended nothing can be sent; its line says so next.
            with suppress(OSError):
                line.send(UPGRADE)

    def _check(self, renewal: Renewal) -> None:
        """Give an upgrade up if the worker that is asked takes too long, or has ended without a report."""
        first = renewal.waiting[0]
        if time.monotonic() > renewal.due_s:
            self._give_up(f"worker {first.pid} does not answer")
        elif renewal.ended and first.line is not None and not select.select([first.line], [], [], 0)[0]:
            # All that it has sent is read.
            self._give_up(f"worker {renewal.ended} has ended, and a new process serves in its place")

    def _renewed(self, slot: WorkerSlot, report: Report) -> None:
        """Go on with the next worker, or with this process after the last one."""
        self._serves(slot, report.pid)
        renewal = self._renewal
        if renewal is None or slot not in renewal.waiting:
            return
        renewal.reports.append(report)
        renewal.waiting.remove(slot)
        if renewal.waiting:
            self._ask(renewal)
        else:
            self._renew(renewal)

    def _renew(self, renewal: Renewal) -> None:
        """Replace the program of this process, unless it stops."""
        # They wait until the new program catches them: by default they would end it without a drain.
        signal.pthread_sigmask(signal.SIG_BLOCK, WAITING)
        try:
            # Those that came before: the socket which has them is closed with this program.
            self._read_signals()
            if self._code is not None:
                self._give_up("the server stops")
                return
            self._kept(renewal).run_new_program()
        except OSError as error:
            self._give_up(f"all workers are upgraded, and the parent is not: {error}")
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, WAITING)

    def _kept(self, renewal: Renewal) -> Kept:
        return Kept(
            **kept_options(self._settings),
            slots=[
                None if slot.line is None else (slot.number, slot.pid, slot.line.fileno())
                for slot in self._slots
            ],
            reserved=[each.fileno() for each in self._reserved],
            for_scrapers=[each.fileno() for each in self._for_scrapers],
            directory=str(self._directory) if self._directory else None,
            retiring=list(self._retiring),
            requester=renewal.requester.socket.fileno() if renewal.requester else None,
            report=summed(renewal.reports),
        )

    def _give_up(self, reason: str) -> None:
        """Go on as before, or stop: with new workers where they have been upgraded, and else with old ones."""
        renewal, self._renewal = self._renewal, None
        if renewal is None:
            return
        done = f"{len(renewal.reports)} of {logs.counted(len(self._slots), 'worker')} upgraded"
        goes_on = self._code is None
        outcome = "goes on" if goes_on else "stops"
        logger.error("the upgrade has failed, and the service %s: %s (%s)", outcome, reason, done)
        if renewal.requester is not None:
            _answer(renewal.requester, Failure(f"{reason} ({done})", goes_on).part(NOT_UPGRADED))

    def _retire(self, pid: int, slot: WorkerSlot | None = None) -> None:
        """Wait for the end of a process that has handed over, beside other work.

        Args:
            slot: the one that it had, if it may not have reported yet.
        """
        renewal = self._renewal
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:  # This process may open no more descriptors: `forget_orphans` waits instead.
            return
        self._retiring.add(pid)

        def ended() -> None:
            self._selector.unregister(descriptor)
            os.close(descriptor)
            os.waitpid(pid, 0)
            self._retiring.discard(pid)
            # Only that of the worker that is asked now: an upgrade that was given up may have renewed another one late.
            if renewal is not None and slot in renewal.waiting[:1]:
                renewal.ended = pid

        self._selector.register(descriptor, selectors.EVENT_READ, ended)

    # -- ending

    def _ended(self, slot: WorkerSlot, code: int) -> None:
        had_served, pid = slot.is_serving, slot.pid
        slot.vacate(time.monotonic())
        if self._code is not None:
            self._code = self._code or (FAILED if code not in STOPPED else 0)
        elif had_served or (self._has_served and any(other.is_serving for other in self._slots)):
            logger.error(
                "worker %d has ended (%s); another one starts in %g s", pid, _reason(code), slot.pause_s
            )
        else:
            logger.error("worker %d could not start (%s): stopping all workers", pid, _reason(code))
            self._stop(code if code > 0 else FAILED)

    @property
    def _passed(self) -> tuple[signal.Signals, ...]:
        """The signals that a new worker, and a new program, ignore until they catch them."""
        return (signal.SIGUSR2, signal.SIGHUP) if self._settings.reads_again else (signal.SIGUSR2,)

    def _catch_signals(self) -> None:
        receiver, sender = socket.socketpair()
        receiver.setblocking(False)
        sender.setblocking(False)
        # The handlers do nothing: Python writes the number of the signal to the socket.
        for number in (*STOPPING, *self._passed, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(sender.fileno())
        # Those that came while this program started, or replaced another one.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, CAUGHT)
        self._read_signals = partial(self._signalled, receiver, sender)
        self._selector.register(receiver, selectors.EVENT_READ, self._read_signals)

    def _signalled(self, receiver: socket.socket, _kept_open: socket.socket) -> None:
        numbers = b""
        with suppress(BlockingIOError):
            numbers = receiver.recv(64)
        for number in numbers:
            if number == signal.SIGUSR2:
                self._upgrade()
            elif number == signal.SIGHUP:
                self._signal_workers(signal.SIGHUP)
            elif number == signal.SIGCHLD:
                pass  # It wakes this process, which looks for orphans then.
            elif self._code is None:
                logger.info("stopping %s", logs.counted(sum(1 for slot in self._slots if slot.pid), "worker"))
                self._stop(0)
            elif number == signal.SIGINT:
                self._signal_workers(signal.SIGINT)

    def _stop(self, code: int) -> None:
        service_manager.notify(service_manager.STOPPING)
        self._code = code
        self._deadline_s = time.monotonic() + drain_bound_s(self._settings)
        self._signal_workers(signal.SIGTERM)

    def _signal_workers(self, number: signal.Signals) -> None:
        for slot in self._slots:
            if slot.pid:
                os.kill(slot.pid, number)
        for pid in self._retiring if number == signal.SIGKILL else ():
            os.kill(pid, number)


def _exit_code(pid: int) -> int:
    """Return the exit code of a worker that has ended; `FAILED` while it is a child of the process that it has replaced.

    That process ends in the same moment, and the worker is then left to `forget_orphans`.
    """
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        return FAILED
    return os.waitstatus_to_exitcode(status)


def _start_later(slot: WorkerSlot, now_s: float, error: OSError) -> None:
    slot.vacate(now_s)
    logger.error("no worker can start: %s; tried again in %g s", error, slot.pause_s)


def _answer(requester: Line, answer: Part) -> None:
    line = BlockingLine(requester.socket, REQUEST_S)
    with suppress(CannotHandOver):
        line.run(line.send(answer))
    line.close()


def drain_bound_s(settings: Settings) -> float:
    """Return the seconds after which a worker that has not ended is killed."""
    return settings.drain_spread_s + 2 * settings.drain_timeout_s + SPARE_S


def _reason(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
