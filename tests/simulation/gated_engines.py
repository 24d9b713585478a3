"""Engines whose calls wait at gates: one that is reached late, and the SQLite engine with its writes."""

from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future
from functools import partial
from pathlib import Path
from typing import Any

from tests.simulation.gates import Gates
from tests.simulation.world import WRITES, WorldClock

from channelstream.core.registry import Registry
from channelstream.core.registry_limits import Lifetimes
from channelstream.engines.incoming_state import TakenState
from channelstream.engines.sqlite import SqliteEngine
from channelstream.engines.sqlite_file import Stored, Writes
from channelstream.engines.sqlite_restore import Restore
from channelstream.engines.sqlite_rows import Row

ENGINES = ("late", "diskless")
"""The engines on which calls are played, by name."""
ENDS = ("disconnect", "disconnect_all")


class LateEngine:
    """An engine that is reached some time after the call, as over a line."""

    def __init__(self, engine: Any, gates: Gates) -> None:
        self._engine = engine
        self._gates = gates

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._engine, name)
        # Whether a failed end was counted is unknown; setting that right is part of an engine (redis/reconciler.py).
        return partial(self._later, method, name not in ENDS) if name in WRITES else method

    async def _later(
        self, method: Callable[..., Awaitable[Any]], can_fail: bool, *args: Any, **more: Any
    ) -> Any:
        await self._gates.passed(can_fail)
        return await method(*args, **more)


class GatedDisk(Executor):
    """The thread of a SQLite engine whose file is nowhere: each write waits, and may fail."""

    def __init__(self, gates: Gates) -> None:
        self._gates = gates

    def submit(self, work: Callable[..., Any], /, *args: Any, **more: Any) -> "Future[Any]":
        done: Future[Any] = Future()

        def write(works: bool) -> None:
            if works:
                done.set_result(work())
            else:
                done.set_exception(OSError("The disk is full."))

        self._gates.add(write, can_fail=True)
        return done

    def write(self, writes: Writes, **_more: Any) -> None:
        """Discard it: no test reads it again."""

    def close(self) -> None:
        """There is nothing to close."""


class DisklessEngine(SqliteEngine):
    """The product's SQLite engine on a disk that keeps nothing, such as a `GatedDisk`."""

    def __init__(
        self,
        registry: Registry,
        clock: WorldClock,
        disk: Executor,
        new_id: Callable[[], str],
        lifetimes: Lifetimes = Lifetimes(),  # noqa: B008 - it is immutable
        epoch: str = "e",
    ) -> None:
        super().__init__(Path("nowhere"), registry, clock, lifetimes, new_id, lambda: epoch)
        self._epoch = epoch
        self._thread: Any = disk

    def _open(self) -> list[Row]:
        self._file: Any = self._thread
        restore = Restore(Stored({"epoch": self._epoch}), self.registry, self._clock, self._lifetimes)
        self._begin(TakenState(self._epoch, restore.offset, restore.clock_offset_s), frozenset())
        return restore.left
