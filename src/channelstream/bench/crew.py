"""Controls the worker processes: sends orders and collects one answer from each."""

import asyncio
import resource
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise

from channelstream.bench.load import BenchFailed, Load
from channelstream.bench.orders import (
    Answer,
    Attach,
    Failed,
    Finish,
    Order,
    Register,
    Result,
    Start,
    Tick,
    answer_from,
    to_line,
)
from channelstream.bench.programs import start_program
from channelstream.bench.wire import Wire

QUIET_S = 5.0
"""Time without receipts at the end after which missing messages count as lost."""
DESCRIPTORS_BESIDE = 128
"""Descriptors a process needs besides those of its clients."""
_LINE_BYTES = 1 << 24
_STOP_S = 10.0


def check_descriptors(load: Load) -> None:
    """Check that each client can have a socket, in a worker and in a server on this machine.

    Raises:
        BenchFailed: the limit of open files is too low.
    """
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = load.clients + DESCRIPTORS_BESIDE
    if needed > limit:
        raise BenchFailed(
            f"{load.clients:,} clients need {needed:,} open files in one process and only {limit:,} are allowed:"
            f" raise the limit (`ulimit -Hn`, or LimitNOFILE of systemd), or ask for fewer clients"
        )


class Crew:
    """The workers of one run.

    Attributes:
        received: messages that the clients of each worker have received so far.
    """

    def __init__(self, processes: Sequence[Process]) -> None:
        self._processes = processes
        self._tasks = [
            asyncio.ensure_future(self._read(number, process)) for number, process in enumerate(processes)
        ]
        self._answers: list[asyncio.Queue[Answer]] = [asyncio.Queue() for _ in processes]
        self.received = [0 for _ in processes]
        self.ticked = asyncio.Event()

    async def _read(self, number: int, process: Process) -> None:
        """Store the counts of ticks and queue the answers. The last answer reports the end of the process."""
        assert process.stdout is not None  # noqa: S101 - it was started with a pipe
        while line := await process.stdout.readline():
            answer = answer_from(line)
            if isinstance(answer, Tick):
                self.received[number] = answer.received
                self.ticked.set()
            else:
                self._answers[number].put_nowait(answer)
        self._answers[number].put_nowait(Failed("a worker process has ended; see its output above"))

    async def order(self, orders: Sequence[Order]) -> list[Answer]:
        """Send each worker its order and return the answers.

        Raises:
            BenchFailed: one of them failed.
        """
        for process, order in zip(self._processes, orders, strict=True):
            _send(process, order)
        answers = [await queue.get() for queue in self._answers]
        for answer in answers:
            if isinstance(answer, Failed):
                raise BenchFailed(answer.reason)
        return answers

    async def register(self, first: int, count: int) -> None:
        """Register clients, divided evenly among the workers."""
        await self.order(_shares(first, count, len(self._processes)))

    async def attach(self) -> None:
        """Open the streams of the clients that were registered last."""
        await self.order([Attach() for _ in self._processes])

    async def finish(self, sent: list[tuple[int, int, int]], quiet_s: float = QUIET_S) -> list[Result]:
        """Wait for the last messages and return the results of the clients.

        Args:
            quiet_s: time without receipts after which missing messages count as lost.
        """
        answers = await self.order([Finish(sent, quiet_s) for _ in self._processes])
        return [answer for answer in answers if isinstance(answer, Result)]

    async def close(self) -> None:
        """End the processes by closing their stdin, and kill them after a timeout."""
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_S):
                await asyncio.gather(*(process.wait() for process in self._processes))
        except TimeoutError:
            for process in self._processes:
                process.kill()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _send(process: Process, order: Order) -> None:
    if process.stdin is not None and not process.stdin.is_closing():
        process.stdin.write(to_line(order))


def _shares(first: int, count: int, workers: int) -> list[Register]:
    """Divide clients evenly among workers."""
    ends = [first + count * number // workers for number in range(workers + 1)]
    return [Register(begin, end - begin) for begin, end in pairwise(ends)]


@asynccontextmanager
async def crew_of(wire: Wire, load: Load, run: str) -> AsyncIterator[Crew]:
    """Start workers for one run, and end them with it."""
    processes = [
        await start_program("channelstream.bench.worker", stdin=PIPE, stdout=PIPE, line_bytes=_LINE_BYTES)
        for _ in range(load.workers)
    ]
    crew = Crew(processes)
    try:
        await crew.order([Start(wire, load, run) for _ in processes])
        yield crew
    finally:
        await crew.close()
