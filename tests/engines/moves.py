"""Moves of an engine between two processes, for `tests/engines/conformance/moving.py`."""

import asyncio
from collections.abc import Awaitable, Callable

from tests.engines.conformance.lab import Lab, MovedClock, Settle, Setup

from channelstream.core.position import ReadRange
from channelstream.engines.base import Engine
from channelstream.engines.members import RestoredConnection


async def nothing() -> None:
    """Nothing happens."""


class OtherClock(MovedClock):
    """The clock of another process: its steady clock began at another moment."""

    def __init__(self, former: MovedClock) -> None:
        super().__init__()
        self.set_s = former.passed_s + former.set_s

    def steady(self) -> float:
        return 9000.0 + self.passed_s


class Processes:
    """Two processes, one after the other.

    Attributes:
        lab: that of the present one.
    """

    def __init__(self, runner: asyncio.Runner, make: Callable[[Setup], Engine], settle: Settle) -> None:
        self._runner = runner
        self._make = make
        self._settle = settle
        self._setup = Setup()
        self.lab = Lab(runner, make(self._setup), self._setup, settle)
        self._left: list[Engine] = []

    async def _state(self, meanwhile: Callable[[], Awaitable[None]]) -> list[bytes]:
        copied = [record async for record in self.lab.engine.copy()]
        await meanwhile()
        await self._settle(self.lab.engine)
        return copied + [record async for record in self.lab.engine.hand_over()]

    def move(self, meanwhile: Callable[[], Awaitable[None]] = nothing) -> Lab:
        """Move to the next process.

        Args:
            meanwhile: what happens after the logs are copied.
        """
        former, state = self.lab, self._runner.run(self._state(meanwhile))
        setup = Setup(OtherClock(former.clock))
        engine = self._make(setup)
        for record in state:
            engine.receive(record)
        engine.take_over(self._connections())
        self._left.append(former.engine)
        self.lab = Lab(self._runner, engine, setup, self._settle)
        return self.lab

    def stay(self) -> Lab:
        self._runner.run(self._state(nothing))
        self._runner.run(self.lab.engine.proceed())
        return self.lab

    def _connections(self) -> list[RestoredConnection]:
        everything = ReadRange.of(0)
        return [
            RestoredConnection(member, dict.fromkeys(sorted(channels), everything), everything, (0,))
            for member, channels in self.lab.recorder.members.values()
        ]

    def end(self) -> None:
        for engine in (*self._left, self.lab.engine):
            self._runner.run(engine.close())
