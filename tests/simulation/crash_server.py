"""A server with the SQLite engine on a real file, which can be killed between any two steps of the loop."""

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import Executor, Future
from itertools import count
from pathlib import Path
from typing import Any

from tests.simulation.loop import kill_others, turns
from tests.simulation.world import WorldClock

from channelstream.apps.app import App, Apps
from channelstream.core.hub import Hub
from channelstream.core.policy import Policy
from channelstream.core.registry import Registry
from channelstream.core.registry_limits import Lifetimes, RegistryLimits
from channelstream.engines.sqlite import SqliteEngine
from channelstream.housekeeping import Housekeeping
from channelstream.service import Node, NodeLimits, Services
from channelstream.transports.settings import StreamSettings
from channelstream.transports.streams import Streams
from channelstream.wire.protocols import PROTOCOLS

GRACE_S = 6.0
"""How long a connection waits for a stream, new, detached or restored."""


class Disk(Executor):
    """The thread of the engine, in virtual time."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.is_dead = False
        self.fails_until_s = 0.0
        self.failures = 0

    def submit(self, work: Callable[..., Any], /, *args: Any, **more: Any) -> "Future[Any]":
        done: Future[Any] = Future()
        loop = asyncio.get_running_loop()

        def run() -> None:
            if self.is_dead or done.cancelled():
                return
            if (
                "seal" in work.__qualname__ and loop.time() < self.fails_until_s
            ):  # To close the file does not fail.
                self.failures += 1
                done.set_exception(OSError("The disk is full."))
                return
            done.set_result(work(*args, **more))

        loop.call_later(self._chance.choice((0.0, 0.01, 0.2, 0.2)), run)
        return done


class Server:
    """One run of a server on the file."""

    def __init__(self, path: Path, number: int, clock: WorldClock, chance: random.Random) -> None:
        ids = (f"{number:08x}-0000-4000-8000-{each:012x}" for each in count())
        self.new_id = lambda: next(ids)
        self.registry = Registry(RegistryLimits(log_events=100_000, log_age_s=1e9), self.new_id)
        self.disk = Disk(chance)
        self.engine = SqliteEngine(path, self.registry, clock, Lifetimes(), self.new_id, self.new_id)
        self.engine._thread = self.disk  # type: ignore[assignment]
        self.hub = Hub(PROTOCOLS.formats, self._schedule_flush)
        limits = NodeLimits(unattached_s=GRACE_S, restored_s=GRACE_S)
        self.node = Node(self.engine, self.hub, clock, self.new_id, limits)
        settings = StreamSettings(heartbeat_interval_s=2.0, detach_grace_s=GRACE_S)
        self.streams = Streams(Services(Apps(App()), self.node), settings, Policy())
        self._housekeeping = Housekeeping(self.node)

    def _schedule_flush(self) -> None:
        asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        if self.hub.flush():
            self._schedule_flush()

    async def start(self) -> None:
        await self.node.start()
        self.streams.heartbeat.start()
        self._housekeeping.start()

    async def settled(self) -> None:
        """Wait until everything is written and delivered, also what expires meanwhile."""
        commits = self.engine._commits
        is_written = False
        while not is_written:
            await self.node.local.departures.disconnects.drained()
            await self.engine.flush()
            await turns(20)
            is_written = not commits._queue and commits._writing is None

    async def stop(self) -> None:
        self.streams.heartbeat.stop()
        await self._housekeeping.stop()
        await self.node.close()

    async def kill(self) -> None:
        """End without another write."""
        self.disk.is_dead = True
        self.streams.heartbeat.stop()
        await kill_others()
        self.engine._opened.close()
