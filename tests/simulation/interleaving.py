"""Plays a few calls about one connection in every order in which their steps can fall, and with every one failure.

A call runs until it waits for its engine; when all wait, one of them is released, or fails. All ways to choose are
played, each from the beginning. After each, all registrations must agree.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import islice

from tests.simulation.failure import Failure, demand
from tests.simulation.gates import Choices, GatedLoop, Gates
from tests.simulation.loop import kill_others
from tests.simulation.scene import CALLS, Scene


def play(engine: str, names: Sequence[str], is_connected: bool, choices: Choices, may_fail: bool) -> None:
    """Play calls in one way.

    Raises:
        Failure: a promise was broken.
    """
    loop = GatedLoop()
    loop.gates = Gates(choices, may_fail)

    async def run() -> None:
        await Scene(engine, loop.gates).run([CALLS[name] for name in names], is_connected)

    try:
        loop.run_until_complete(run())
        demand(not loop.faults, "a task failed:", *map(repr, loop.faults))
    except Exception as error:
        if isinstance(error, Failure):
            raise
        raise Failure(f"a call failed: {error!r}") from error
    finally:
        loop.gates.are_open = True
        loop.run_until_complete(kill_others())
        loop.close()


def every_way(engine: str, names: Sequence[str], is_connected: bool, may_fail: bool = True) -> Iterator[None]:
    """Play calls in all ways, one at each step.

    Raises:
        Failure: a promise was broken; its note says by what.
    """
    way: list[int] | None = []
    while way is not None:
        choices = Choices(way)
        try:
            play(engine, names, is_connected, choices, may_fail)
        except Failure as failure:
            failure.add_note(
                f"{engine}, {'connected' if is_connected else 'unknown'}, {names}, way {choices._taken}"
            )
            raise
        way = choices.following()
        yield


def some_ways(engine: str, names: Sequence[str], is_connected: bool, seed: int) -> None:
    """Play calls in a random way, with a failure or without."""
    chance = random.Random(seed)
    try:
        play(engine, names, is_connected, Choices((), chance), chance.random() < 0.5)
    except Failure as failure:
        failure.add_note(f"{engine}, {'connected' if is_connected else 'unknown'}, {names}, seed {seed}")
        raise


def ways(engine: str, names: Sequence[str], is_connected: bool, most: int = 100_000) -> int:
    """Play calls in all ways, up to so many, and return in how many."""
    return sum(1 for _ in islice(every_way(engine, names, is_connected), most))
