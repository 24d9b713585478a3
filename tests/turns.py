"""Whether other tasks run while a long piece of work is done."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def turns_of_others(work: Awaitable[T]) -> tuple[T, int]:
    """Return the result of the work, and in how many turns of the loop another task ran meanwhile."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.ensure_future(other())
    await asyncio.sleep(0)
    before = turns
    result = await work
    task.cancel()
    return result, turns - before
