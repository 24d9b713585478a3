"""Moves of an engine between two processes, for `tests/engines/conformance/moving.py`."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from tests.engines.conformance.lab import ALL_FACTS, Lab, MovedClock, Settle, Setup

from channelstream.core.position import ReadRange
from channelstream.engines.base import Engine
from channelstream.engines.members import Leaving, RestoredConnection


async def nothing() -> None:
    """Nothing happens."""


def build(
    engine: Engine, state: Iterable[bytes], left: Sequence[Leaving], connections: Sequence[RestoredConnection]
) -> None:
    """Build records, and changes of connections, in the engine of another process."""
    for record in state:
        engine.receive(record)
    engine.build(left, connections)


class OtherClock(MovedClock):
    """The clock of another process: its steady clock began at another moment."""

    def __init__(self, former: MovedClock) -> None:
        super().__init__()
        self._former = former

    def wall(self) -> float:
        return self._former.wall() + self.passed_s

    def steady(self) -> float:
        return self._former.steady() + 9000.0 + self.passed_s


class Processes:
    """Two processes, one after the other.

    Attributes:
        lab: that of the present one.
        outbox: what the outbox of the next one keeps.
    """

    def __init__(self, runner: asyncio.Runner, make: Callable[[Setup], Engine], settle: Settle) -> None:
        self._runner = runner
        self._make = make
        self._settle = settle
        self._setup = Setup(outbox=ALL_FACTS)
        self.outbox = ALL_FACTS
        self.lab = Lab(runner, make(self._setup), self._setup, settle)
        self._left: list[Engine] = []
        self._next: tuple[Engine, Setup] | None = None
        self._built: list[RestoredConnection] = []

    async def _copy(self) -> list[bytes]:
        return [record async for record in self.lab.engine.copy()]

    async def _rest(self, meanwhile: Callable[[], Awaitable[None]]) -> list[bytes]:
        await meanwhile()
        await self._settle(self.lab.engine)
        return [record async for record in self.lab.engine.hand_over()]

    def move(self, meanwhile: Callable[[], Awaitable[None]] = nothing) -> Lab:
        """Move to the next process.

        Args:
            meanwhile: what happens after everything is copied, and built from the copy.
        """
        self.copy()
        self._build(self._runner.run(self._rest(meanwhile)))
        (engine, setup), self._next, former = self._prepared(), None, self.lab
        engine.take_over()
        self._left.append(former.engine)
        self._built = []
        self.lab = Lab(self._runner, engine, setup, self._settle)
        return self.lab

    def copy(self) -> None:
        """Copy everything, or what has changed since the last call, and build it in the next process."""
        self._build(self._runner.run(self._copy()))

    def _prepared(self) -> tuple[Engine, Setup]:
        """Return the engine of the next process, which has not taken over."""
        if self._next is None:
            setup = Setup(OtherClock(self.lab.clock), outbox=self.outbox)
            self._next = self._make(setup), setup
        return self._next

    def _build(self, state: list[bytes]) -> None:
        before, self._built = self._built, self._connections()
        left = [Leaving(each.member, list(each.channels)) for each in before if each not in self._built]
        build(self._prepared()[0], state, left, [each for each in self._built if each not in before])

    def stay(self) -> Lab:
        self._runner.run(self._copy())
        self._runner.run(self._rest(nothing))
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
