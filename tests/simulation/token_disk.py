"""Clients with tokens on the SQLite engine, whose writes take a while; the file is nowhere."""

import asyncio
import random
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from typing import Any

from tests.simulation.books import Booked
from tests.simulation.gated_engines import DisklessEngine
from tests.simulation.report import Play
from tests.simulation.token_simulation import WEIGHTS, TokenSimulation
from tests.simulation.token_world import TokenWorld
from tests.simulation.world import WorldClock

from channelstream.core.log import PRIVATE
from channelstream.core.position import Position
from channelstream.core.user import UserUpdate
from channelstream.engines.base import NO_CHANNELS, Registered
from channelstream.engines.members import Member
from channelstream.engines.sqlite_file import Writes
from channelstream.engines.time_series import LocalTimeSeries


class LateDisk(Executor):
    """The thread of the engine, in virtual time."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def submit(self, work: Callable[..., Any], /, *args: Any, **more: Any) -> "Future[Any]":
        done: Future[Any] = Future()

        def run() -> None:
            if not done.cancelled():
                done.set_result(work(*args, **more))

        asyncio.get_running_loop().call_later(self._chance.choice((0.0, 0.0, 0.01, 0.1)), run)
        return done

    def write(self, writes: Writes, **_more: Any) -> None:
        """Discard it: no test reads it again."""

    def close(self) -> None:
        """There is nothing to close."""

    def empty_wal(self) -> None:
        """There is no text to erase."""

    rebuild = empty_wal


class BookedDisk(Booked, DisklessEngine):
    """The SQLite engine, booked: what it has registered is known when it answers."""

    async def connect(
        self,
        member: Member,
        update: UserUpdate,
        channels: Mapping[str, Mapping[str, Any]] = NO_CHANNELS,
        since: Position | None = None,
    ) -> Registered | None:
        stays = self._stays(member, [PRIVATE, *channels])
        registered = await super().connect(member, update, channels, since)
        self._place_all(stays, registered, since)
        return registered

    async def join(
        self, member: Member, channels: Mapping[str, Mapping[str, Any]], since: Position | None = None
    ) -> dict[str, int]:
        stays = self._stays(member, channels)
        joined = await super().join(member, channels, since)
        for name, offset in joined.items():
            self._place(stays[name], offset, since)
        return joined


class DiskWorld(TokenWorld):
    """One run of a server with that engine."""

    def _make_engine(self, clock: WorldClock, chance: random.Random) -> Any:
        disk = LateDisk(chance)
        engine = BookedDisk(self.registry, clock, disk, self.new_id, self._lifetimes, f"e{self._number}")
        engine.time_series = LocalTimeSeries()
        return engine

    @property
    def rests(self) -> bool:
        commits = self.memory._commits
        is_written = not commits._queue and commits._writing is None
        return is_written and self.node.local.is_settled and super().rests


class DiskSimulation(TokenSimulation):
    """Such runs."""

    def _make_world(self, number: int) -> TokenWorld:
        self._seen = 0
        return DiskWorld(number, self.bounds, self.clock, self.chance, self.fresh)


DISK_TOKENS = Play("--tokens --sqlite", DiskSimulation, WEIGHTS)
