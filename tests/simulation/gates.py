"""Gates at which calls wait, and the way through them: which is released next, and which fails."""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

from tests.simulation.loop import VirtualLoop

from channelstream.errors import Unavailable


class Choices:
    """One way through: the choice at each fork, first as given, then always the first, or at random."""

    def __init__(self, given: Sequence[int] = (), chance: random.Random | None = None) -> None:
        self._given = given
        self._chance = chance
        self._taken: list[tuple[int, int]] = []

    def choose(self, options: int) -> int:
        number = len(self._taken)
        first = self._chance.randrange(options) if self._chance else 0
        choice = self._given[number] if number < len(self._given) else first
        self._taken.append((choice, options))
        return choice

    def following(self) -> list[int] | None:
        """Return the next way; None after the last."""
        taken = list(self._taken)
        while taken and taken[-1][0] + 1 == taken[-1][1]:
            taken.pop()
        return [choice for choice, _ in taken[:-1]] + [taken[-1][0] + 1] if taken else None


class Gates:
    """Where calls wait to be released; one of them in each run may fail instead.

    Attributes:
        check: is called before each release, when nothing else is ready.
    """

    def __init__(self, choices: Choices, may_fail: bool) -> None:
        self.are_open = True
        self.check: Callable[[], None] = lambda: None
        self._choices = choices
        self._may_fail = may_fail
        self._waiting: list[Callable[[bool], None]] = []
        self._can_fail: list[bool] = []

    def choose(self, options: int) -> int:
        """Choose one of so many ways to continue."""
        return self._choices.choose(options)

    def add(self, go_on: Callable[[bool], None], can_fail: bool) -> None:
        """Add a waiter, a callback whose argument is whether it succeeds."""
        if self.are_open:
            go_on(True)
            return
        self._waiting.append(go_on)
        self._can_fail.append(can_fail)

    async def passed(self, can_fail: bool) -> None:
        """Wait here. A cancelled caller waits no longer: its release would change nothing.

        Raises:
            Unavailable: it has failed.
        """
        gate: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        go_on = gate.set_result
        self.add(go_on, can_fail)
        try:
            works = await gate
        except asyncio.CancelledError:
            self.withdraw(go_on)
            raise
        if not works:
            raise Unavailable("Not now.")

    def withdraw(self, go_on: Callable[[bool], None]) -> None:
        """Remove a waiter, if it still waits: its release would change nothing, in whatever order."""
        if go_on in self._waiting:
            number = self._waiting.index(go_on)
            del self._waiting[number], self._can_fail[number]

    def release(self) -> bool:
        """Release one, or let it fail; False if none waits."""
        if not self._waiting:
            return False
        self.check()
        fallible = [number for number, can in enumerate(self._can_fail) if can and self._may_fail]
        choice = self._choices.choose(len(self._waiting) + len(fallible))
        works = choice < len(self._waiting)
        number = choice if works else fallible[choice - len(self._waiting)]
        self._may_fail = self._may_fail and works
        del self._can_fail[number]
        self._waiting.pop(number)(works)
        return True


class GatedLoop(VirtualLoop):
    """A loop that releases a call when nothing else is ready; only then time passes."""

    gates: Gates

    def select(self, timeout_s: float | None) -> list[Any]:
        if timeout_s == 0 or self.gates.release():
            return []
        return super().select(timeout_s)
