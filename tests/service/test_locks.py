"""Locks: one owner after the other for each key."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from channelstream.service.locks import Locks


class Queue:
    """Tasks that want a lock, and the order in which they had it."""

    def __init__(self) -> None:
        self.locks = Locks()
        self.had: list[str] = []
        self.go_on = asyncio.Event()

    async def begin(self, name: str, key: str = "k") -> "asyncio.Task[None]":
        """Start a task that asks for the lock now, and keeps it until it may continue."""
        task = asyncio.create_task(self._work(name, key))
        await asyncio.sleep(0)
        return task

    async def _work(self, name: str, key: str) -> None:
        async with self.locks.of(key):
            self.had.append(name)
            await self.go_on.wait()


def play(test: Callable[[Queue], Awaitable[None]]) -> None:
    async def whole() -> None:
        await test(Queue())

    asyncio.run(whole())


def test_a_lock_is_first_come_first_served() -> None:
    """Others of the same key wait, those of another one do not; a key without an owner is forgotten."""

    async def test(queue: Queue) -> None:
        tasks = [await queue.begin(name) for name in "abc"] + [await queue.begin("x", "other")]
        assert (queue.had, len(queue.locks)) == (["a", "x"], 2)
        queue.go_on.set()
        await asyncio.gather(*tasks)
        assert (queue.had, len(queue.locks)) == (["a", "x", "b", "c"], 0)

    play(test)


def test_nobody_overtakes_the_next_owner_of_a_lock() -> None:
    """A task that asks between release and acquisition comes after the waiters."""

    async def test(queue: Queue) -> None:
        tasks = [await queue.begin("a"), await queue.begin("b")]
        queue.go_on.set()
        await asyncio.sleep(0)
        tasks.append(await queue.begin("late"))
        await asyncio.gather(*tasks)
        assert queue.had == ["a", "b", "late"]

    play(test)


def test_an_error_releases_the_lock() -> None:
    """The next waiter gets it."""

    async def test(queue: Queue) -> None:
        with pytest.raises(ZeroDivisionError):
            async with queue.locks.of("k"):
                raise ZeroDivisionError
        assert len(queue.locks) == 0

    play(test)


def test_a_cancelled_waiter_does_not_block_the_others() -> None:
    """The next waiter after it gets the lock."""

    async def test(queue: Queue) -> None:
        first, cancelled, last = [await queue.begin(name) for name in "abc"]
        cancelled.cancel()
        queue.go_on.set()
        await asyncio.gather(first, cancelled, last, return_exceptions=True)
        assert (queue.had, len(queue.locks)) == (["a", "c"], 0)

    play(test)


def test_a_waiter_cancelled_as_it_gets_the_lock_passes_it_on() -> None:
    """The next waiter gets the lock, which the cancelled one never had."""

    async def test(queue: Queue) -> None:
        async with queue.locks.of("k"):
            cancelled, last = [await queue.begin(name) for name in "bc"]
        cancelled.cancel()
        queue.go_on.set()
        await asyncio.gather(cancelled, last, return_exceptions=True)
        assert (queue.had, len(queue.locks)) == (["c"], 0)

    play(test)
