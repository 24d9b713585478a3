"""Work that goes on when a caller that waits for it is cancelled."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def result_of(work: asyncio.Future[T]) -> T:
    """Return the result of work that several may wait for; it goes on if this caller is cancelled.

    `asyncio.shield` would do the same, but once its caller was cancelled it logs an error of the work, from CPython 3.14 on,
    although others are sent that error.

    Raises:
        Exception: what the work has raised.
    """
    try:
        if not work.done():
            await asyncio.wait((work,))
        return work.result()
    finally:
        del work  # An error refers to this frame, and would refer to itself.


async def to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Run work that must not stop half-way: it goes on if the caller is cancelled."""
    await result_of(asyncio.ensure_future(work))


def retrieve(done: asyncio.Future[Any]) -> None:
    """Take an error that nobody may wait for any more, so that asyncio does not log it: a callback of the work."""
    if not done.cancelled():
        done.exception()
