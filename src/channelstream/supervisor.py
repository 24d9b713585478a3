"""Several worker processes that share one port, and a small parent that replaces those that die.

The parent reserves the port, starts workers and waits; it serves nothing. Each worker is a whole node with listening
sockets of its own, among which the kernel distributes new connections (SO_REUSEPORT of socket(7)). The sockets of a
dead worker close with it, so no client waits for it. A socket pair connects each worker with the parent: a byte on it
means that the worker serves, and its end that the other side is dead.
"""

import asyncio
import logging
import os
import secrets
import selectors
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

from channelstream import logs, service_manager
from channelstream.config import Settings
from channelstream.config.listening import announcements, metrics_refusal, refusal
from channelstream.integrations.metrics.siblings import Worker
from channelstream.lifecycle import Server
from channelstream.server import serve

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0
"""Pause before a dead worker is replaced, in seconds; doubled for each worker that dies within `YOUNG_S`."""
YOUNG_S = 10.0
SPARE_S = 10.0
"""Seconds besides twice the drain's time after which workers are killed."""
SERVING = b"\1"
STOPPING = (signal.SIGTERM, signal.SIGINT)
CAUGHT = (*STOPPING, signal.SIGUSR2)
FAILED = 1

logger = logging.getLogger(__name__)


def supervise(settings: Settings) -> int:
    """Serve with `settings.workers` processes until a signal arrives; return the exit code.

    A worker returns from here as well: with its own exit code, or by the ConfigError that keeps it from serving.
    """
    try:
        reserved = reserve(settings.host, settings.port)
    except OSError as error:
        logger.error("%s", refusal(settings, error))  # noqa: TRY400
        return FAILED
    try:
        for_scrapers = reserve(settings.metrics_host, settings.metrics_port) if settings.metrics_port else []
    except OSError as error:
        logger.error("%s", metrics_refusal(settings, error))  # noqa: TRY400
        return FAILED
    port: int = reserved[0].getsockname()[1]
    # All workers need one key for cookies: a browser's next request may go to another worker.
    cookie_secret = settings.cookie_secret or secrets.token_urlsafe()
    with private_directory() as directory:
        return Supervisor(
            replace(settings, port=port, cookie_secret=cookie_secret), reserved, directory, for_scrapers
        ).run()


@contextmanager
def private_directory() -> Iterator[Path | None]:
    """Make a directory that only this user may enter, for the sockets between workers; None where none can be made."""
    parent = os.getpid()
    try:
        directory = Path(mkdtemp(prefix="channelstream-"))
    except OSError as error:
        logger.warning(
            "each worker answers /metrics for itself: there is no directory for their sockets: %s", error
        )
        yield None
        return
    try:
        yield directory
    finally:
        # Workers leave through here as well.
        if os.getpid() == parent:
            shutil.rmtree(directory, ignore_errors=True)


# -- the port


def reserve(host: str, port: int) -> list[socket.socket]:
    """Bind the addresses of a host without listening on them.

    Raises:
        OSError: the host has no address, or the port is in use. With SO_REUSEPORT alone that would go unnoticed, and
            two services of one user would share their clients.
    """
    probes = _bound(host, port, is_shared=False)
    port = probes[0].getsockname()[1]
    for probe in probes:
        probe.close()
    reserved = _bound(host, port, is_shared=True)
    for each in reserved:
        # Without this option the probe of another service fails, even before a worker listens.
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return reserved


def _bound(host: str, port: int, is_shared: bool) -> list[socket.socket]:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    bound: list[socket.socket] = []
    for family, address in dict.fromkeys((family, address) for family, *_, address in found):
        # With port 0 the first socket gets a free port, and the others the same one.
        bound.append(_bind(family, (address[0], port, *address[2:]), is_shared))
        port = bound[0].getsockname()[1]
    return bound


def _bind(family: int, address: tuple[str | int, ...], is_shared: bool) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


# -- a worker


def _work(
    settings: Settings,
    reserved: list[socket.socket],
    for_scrapers: list[socket.socket],
    line: socket.socket,
    worker: Worker,
) -> int:
    """Run a worker; return its exit code.

    Raises:
        ConfigError: it cannot serve.
    """
    # A Ctrl-C must reach the parent only, which signals each worker once: a second signal would end the drain.
    os.setpgid(0, 0)
    service_manager.forget()
    own, own_for_scrapers = (
        [_bind(each.family, each.getsockname(), is_shared=True) for each in bound]
        for bound in (reserved, for_scrapers)
    )
    return serve(settings, own, partial(_report, line), worker, own_for_scrapers)


def _report(line: socket.socket, server: Server) -> None:
    """Report to the parent that this worker serves, and stop when the parent is dead."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_reader(line)
        server.scraper.siblings.are_orphans = True
        server.stop()

    line.send(SERVING)
    loop.add_reader(line, stop)


# -- the parent


@dataclass(slots=True)
class WorkerSlot:
    """The slot of one worker; another process takes it after each death.

    Attributes:
        number: from 0.
        pid: 0 while it is empty.
        due_s: when a worker is started, by the steady clock; None while there is one, and before the first one is
            wanted.
        pause_s: how long the slot stays empty after the next death, in seconds.
    """

    number: int = 0
    pid: int = 0
    line: socket.socket | None = None
    is_serving: bool = False
    started_s: float = 0.0
    due_s: float | None = None
    pause_s: float = FIRST_PAUSE_S

    def vacate(self, now_s: float) -> None:
        """Empty the slot after a death; the next worker starts sooner if this one has lived long."""
        self.pause_s = (
            min(2 * self.pause_s, LONGEST_PAUSE_S) if now_s - self.started_s < YOUNG_S else FIRST_PAUSE_S
        )
        self.pid, self.line, self.is_serving = 0, None, False
        self.due_s = now_s + self.pause_s


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
        self._deadline_s = 0.0
        self._selector = selectors.DefaultSelector()

    def run(self) -> int:
        """Run until the last worker has ended; return the exit code."""
        self._catch_signals()
        # The others wait for the first, so that a fault of all is reported once.
        self._slots[0].due_s = time.monotonic()
        while self._code is None or any(slot.pid for slot in self._slots):
            for key, _ in self._selector.select(self._timeout_s()):
                act: Callable[[], None] = key.data
                act()
            if self._code is None:
                self._fill()
            elif time.monotonic() > self._deadline_s:
                self._signal_workers(signal.SIGKILL)
        return self._code

    def _timeout_s(self) -> float | None:
        """Return the seconds until the next deadline; None if there is none."""
        due = [slot.due_s for slot in self._slots if slot.due_s is not None]
        if self._code is not None:
            due = [self._deadline_s]
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
        ours, theirs = socket.socketpair()
        # A signal in between would be written by the child to the parent's wakeup socket.
        signal.pthread_sigmask(signal.SIG_BLOCK, CAUGHT)
        try:
            pid = os.fork()
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, CAUGHT)
            ours.close()
            theirs.close()
            slot.vacate(now_s)
            logger.error("no worker can start: %s; tried again in %g s", error, slot.pause_s)  # noqa: TRY400
            return
        if not pid:
            ours.close()
            self._forget_parent()
            worker = Worker(self._directory, slot.number, len(self._slots))
            sys.exit(_work(self._settings, self._reserved, self._for_scrapers, theirs, worker))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, CAUGHT)
        theirs.close()
        slot.pid, slot.line, slot.due_s = pid, ours, None
        self._selector.register(ours, selectors.EVENT_READ, partial(self._receive, slot, ours))

    def _forget_parent(self) -> None:
        """In a new worker, close the parent's files: an open socket pair would hide its death from the others."""
        signal.set_wakeup_fd(-1)
        for number in STOPPING:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, CAUGHT)
        self._selector.close()
        for slot in self._slots:
            if slot.line is not None:
                slot.line.close()

    def _receive(self, slot: WorkerSlot, line: socket.socket) -> None:
        if line.recv(len(SERVING)):
            slot.is_serving = True
            self._start_others()
            return
        self._selector.unregister(line)
        line.close()
        _, status = os.waitpid(slot.pid, 0)
        self._ended(slot, os.waitstatus_to_exitcode(status))

    def _start_others(self) -> None:
        """Start the other workers once the first one serves; log it once all serve."""
        if self._has_served:
            return
        for slot in self._slots:
            if not slot.pid:
                slot.due_s = time.monotonic()
        if all(slot.is_serving for slot in self._slots):
            self._has_served = True
            where, *pages = announcements(self._settings)
            for line in (f"{len(self._slots)} workers {where}", *pages):
                logger.info("%s", line)
            service_manager.notify(service_manager.READY)

    # -- ending

    def _ended(self, slot: WorkerSlot, code: int) -> None:
        had_served, pid = slot.is_serving, slot.pid
        slot.vacate(time.monotonic())
        if self._code is not None:
            self._code = self._code or (FAILED if code not in (0, -signal.SIGTERM) else 0)
        elif had_served or (self._has_served and any(other.is_serving for other in self._slots)):
            logger.error(
                "worker %d has ended (%s); another one starts in %g s", pid, _reason(code), slot.pause_s
            )
        else:
            logger.error("worker %d could not start (%s): stopping all workers", pid, _reason(code))
            self._stop(code if code > 0 else FAILED)

    def _catch_signals(self) -> None:
        receiver, sender = socket.socketpair()
        receiver.setblocking(False)
        sender.setblocking(False)
        # The handlers do nothing: Python writes the number of the signal to the socket.
        for number in CAUGHT:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(sender.fileno())
        self._selector.register(receiver, selectors.EVENT_READ, partial(self._signalled, receiver, sender))

    def _signalled(self, receiver: socket.socket, _kept_open: socket.socket) -> None:
        for number in receiver.recv(64):
            if number == signal.SIGUSR2:
                logger.error("a service with workers is not upgraded: restart it")
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


def drain_bound_s(settings: Settings) -> float:
    """Return the seconds after which a worker that has not ended is killed."""
    return settings.drain_spread_s + 2 * settings.drain_timeout_s + SPARE_S


def _reason(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
