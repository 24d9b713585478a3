"""An upgrade of all workers and of their parent, which stays the same process and runs the new program in the end.

The parent asks one worker after the other. Each hands over to a new process as a server of one process does; the new one
gets its end of the line to the parent. When all are new, the parent replaces its own program (execve(2)): its process id,
its children, the bound sockets and the lines stay. If a worker goes on as before, so do those after it and the parent.
"""

import ctypes
import dataclasses
import os
import signal
import socket
import sys
from collections.abc import Container, Iterable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

import msgspec
from msgspec.structs import replace

from channelstream.config import Settings
from channelstream.supervisor import VARIABLE
from channelstream.supervisor.slot import WorkerSlot
from channelstream.upgrade.line import Line
from channelstream.upgrade.messages import KeptOptions, Report

PR_SET_CHILD_SUBREAPER = 36


@dataclass(slots=True)
class Renewal:
    """An upgrade under way.

    Attributes:
        waiting: the workers that have to be upgraded still; the first one is asked now.
        due_s: when the first one counts as hung, by the steady clock.
        requester: who asked, and waits for the report.
        reports: those of the upgraded workers.
        ended: the process that the first one had, if that has ended, and has not reported what it has handed over.
    """

    waiting: list[WorkerSlot]
    due_s: float
    requester: Line | None
    reports: list[Report] = field(default_factory=list)
    ended: int = 0


class Kept(KeptOptions, frozen=True, kw_only=True):
    """What a parent keeps when it replaces its program.

    Attributes:
        slots: number, process id, and descriptor of the line of each worker; None for one that has ended.
        reserved, for_scrapers: descriptors of the bound sockets.
        retiring: processes that have handed over and have not ended.
        requester: descriptor of the connection on which the report is expected.
    """

    slots: list[tuple[int, int, int] | None]
    reserved: list[int]
    for_scrapers: list[int]
    directory: str | None
    retiring: list[int]
    requester: int | None
    report: Report

    @classmethod
    def inherited(cls, environ: MutableMapping[str, str]) -> Self | None:
        """Return what the program of this process before this one has kept, if there was one."""
        number = environ.pop(VARIABLE, None)
        if number is None:
            return None
        with os.fdopen(int(number), "rb") as file:
            kept = msgspec.json.decode(file.read(), type=cls)
        for descriptor in kept._descriptors():
            os.set_inheritable(descriptor, False)
        return kept

    def applied_to(self, configured: Settings) -> Settings:
        """Return the settings of the new program; it has as many workers as this one."""
        return dataclasses.replace(super().applied_to(configured), workers=len(self.slots))

    def sockets(self, descriptors: Iterable[int]) -> list[socket.socket]:
        return [socket.socket(fileno=each) for each in descriptors]

    def run_new_program(self) -> None:
        """Run the command of this process again, in this process; return only by an error.

        Raises:
            OSError: the program cannot be run.
        """
        descriptors = [self.written(), *self._descriptors()]
        for each in descriptors:
            os.set_inheritable(each, True)
        # The new program catches it, but not at once; what is ignored stays so.
        caught = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        environ = {**os.environ, VARIABLE: str(descriptors[0])}
        try:
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)  # noqa: S606 - no shell is meant
        finally:
            # Only after an error: this program goes on, and can be asked again.
            signal.signal(signal.SIGUSR2, caught)
            for each in descriptors:
                os.set_inheritable(each, False)
            os.close(descriptors[0])

    def written(self) -> int:
        """Return the descriptor of a file in memory with all of it: the environment would show the secret."""
        descriptor = os.memfd_create("channelstream")
        os.write(descriptor, msgspec.json.encode(self))
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor

    def _descriptors(self) -> list[int]:
        lines = [slot[2] for slot in self.slots if slot is not None]
        return [*lines, *self.reserved, *self.for_scrapers, *filter(None, [self.requester])]


def summed(reports: list[Report]) -> Report:
    """Return the report of a service from those of its workers."""
    tally: dict[str, int] = {}
    for report in reports:
        for kind, count in report.tally.items():
            tally[kind] = tally.get(kind, 0) + count
    first = reports[0]
    calls_s = max(report.calls_s for report in reports)
    waits = [report.streams_s for report in reports]
    streams_s = None if None in waits else max(filter(None, waits), default=0.0)
    return replace(first, pid=os.getpid(), tally=tally, calls_s=calls_s, streams_s=streams_s)


def adopt_orphans() -> None:
    """Become the parent of processes whose parent, a worker, ends (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def forget_orphans(workers: Container[int]) -> None:
    """Forget the processes that have ended and have never been workers: each has failed with the one that it should replace.

    Those behind a worker that has ended are left to a later call.
    """
    with suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if ended.si_pid in workers:
                return
            os.waitpid(ended.si_pid, 0)
