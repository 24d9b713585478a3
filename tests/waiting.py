"""Waits for what another process, thread or task does: the only places where a test lets real time pass.

A test waits for a condition, never for a duration. `tests/test_waits.py` finds sleeps elsewhere.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable

PATIENCE_S = 60.0
"""After so long a condition that does not hold is a failure: many times the need of a busy machine."""
PAUSE_S = 0.01
"""Between two looks at a condition."""


def eventually(holds: Callable[[], bool], failure: str, patience_s: float = PATIENCE_S) -> None:
    """Wait until a condition holds.

    Raises:
        AssertionError: with `failure`, after `patience_s` seconds.
    """
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, failure
        time.sleep(PAUSE_S)  # real time: another process has to act.


async def soon(
    holds: Callable[[], bool | Awaitable[bool]],
    failure: str | Callable[[], str] = "it never holds",
    patience_s: float = PATIENCE_S,
) -> None:
    """Wait until a condition holds, in an event loop.

    Raises:
        AssertionError: with `failure`, after `patience_s` seconds.
    """
    deadline = time.monotonic() + patience_s
    while True:
        held = holds()
        if (await held) if isawaitable(held) else held:
            return
        assert time.monotonic() < deadline, failure() if callable(failure) else failure
        await asyncio.sleep(PAUSE_S)  # real time: another process or task has to act.
