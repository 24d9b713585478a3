"""Waits for what another process, thread or task does: the only places where a test lets real time pass.

A test waits for a condition, never for a duration. `tests/test_waits.py` finds sleeps elsewhere.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable

PATIENCE_S = 60.0
"""After so long a condition that does not hold is a failure: many times the need of a busy machine."""
PAUSE_S = 0.005
"""Between the first two looks at a condition; each later pause is a tenth of the time that has passed."""
LONGEST_PAUSE_S = 0.05
"""Looks cost processor time, most of all where one is a call of a server, which takes 2 to 3 ms."""


def eventually(
    holds: Callable[[], bool],
    failure: str,
    patience_s: float = PATIENCE_S,
    longest_pause_s: float = LONGEST_PAUSE_S,
) -> None:
    """Wait until a condition holds.

    Args:
        longest_pause_s: shorter than usual where the looks themselves are what is tested.

    Raises:
        AssertionError: with `failure`, after `patience_s` seconds.
    """
    began_s = time.monotonic()
    while not holds():
        waited_s = time.monotonic() - began_s
        assert waited_s < patience_s, failure
        time.sleep(min(_pause_s(waited_s), longest_pause_s))  # real time: another process has to act.


async def soon(
    holds: Callable[[], bool | Awaitable[bool]],
    failure: str | Callable[[], str] = "it never holds",
    patience_s: float = PATIENCE_S,
) -> None:
    """Wait until a condition holds, in an event loop.

    Raises:
        AssertionError: with `failure`, after `patience_s` seconds.
    """
    began_s = time.monotonic()
    while True:
        held = holds()
        if (await held) if isawaitable(held) else held:
            return
        waited_s = time.monotonic() - began_s
        assert waited_s < patience_s, failure() if callable(failure) else failure
        await asyncio.sleep(_pause_s(waited_s))  # real time: another process or task has to act.


def _pause_s(waited_s: float) -> float:
    """Return how long to wait for the next look: long waits end a tenth later than they could."""
    return min(max(PAUSE_S, waited_s / 10), LONGEST_PAUSE_S)
