"""Reads that callers share: each caller's read begins after its call, however many they are."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from tests.census import left_by

from channelstream.errors import Unavailable
from channelstream.service.shared_reads import SharedReads


class Slow:
    """Reads that end when the test says so, each with its number.

    Attributes:
        begun: the names that were read, in order.
    """

    def __init__(self) -> None:
        self.begun: list[str] = []
        self._ends: list[asyncio.Future[None]] = []
        self.reads = SharedReads(self._read)

    async def _read(self, name: str) -> int:
        self.begun.append(name)
        number = len(self.begun)
        end = asyncio.get_running_loop().create_future()
        self._ends.append(end)
        await end
        return number

    def call(self, name: str = "a") -> asyncio.Task[int]:
        return asyncio.ensure_future(self.reads.of(name))

    async def begin(self, count: int) -> None:
        """Wait until so many reads have begun."""
        while len(self.begun) < count:
            await asyncio.sleep(0)

    def end(self, number: int, error: Exception | None = None) -> None:
        if error is None:
            self._ends[number - 1].set_result(None)
        else:
            self._ends[number - 1].set_exception(error)


def play(life: Callable[[Slow], Awaitable[None]]) -> None:
    async def run() -> None:
        slow = Slow()
        await life(slow)
        await asyncio.sleep(0)
        assert len(slow.reads) == 0

    asyncio.run(run())


def test_callers_that_come_meanwhile_share_the_next_read() -> None:
    """And none is given what had begun before it asked."""

    async def life(slow: Slow) -> None:
        first = slow.call()
        await slow.begin(1)
        waiting = [slow.call() for _ in range(50)]
        for _ in range(3):  # The calls begin, then the read that they share, which would read.
            await asyncio.sleep(0)
        assert slow.begun == ["a"]
        slow.end(1)
        assert await first == 1
        await slow.begin(2)
        late = slow.call()
        slow.end(2)
        assert await asyncio.gather(*waiting) == [2] * 50
        await slow.begin(3)
        slow.end(3)
        assert await late == 3

    play(life)


def test_names_do_not_wait_for_each_other() -> None:
    """Each has reads of its own."""

    async def life(slow: Slow) -> None:
        calls = [slow.call(name) for name in "ab"]
        await slow.begin(2)
        slow.end(2)
        assert await calls[1] == 2
        slow.end(1)
        assert await calls[0] == 1

    play(life)


def test_a_failure_is_that_of_all_who_share_it() -> None:
    """And of nobody else."""

    async def life(slow: Slow) -> None:
        first = slow.call()
        await slow.begin(1)
        waiting = [slow.call() for _ in range(2)]
        await asyncio.sleep(0)
        slow.end(1, Unavailable("out of reach"))
        with pytest.raises(Unavailable):
            await first
        await slow.begin(2)
        slow.end(2)
        assert await asyncio.gather(*waiting) == [2, 2]

    play(life)


def test_a_caller_that_is_cancelled_takes_the_read_from_nobody() -> None:
    """Nor is an error lost in the log, if all are cancelled."""

    async def life(slow: Slow) -> None:
        failures: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        gone, stays = slow.call(), slow.call()
        await slow.begin(1)
        gone.cancel()
        slow.end(1)
        assert await stays == 1
        gone = slow.call()
        await slow.begin(2)
        gone.cancel()
        slow.end(2, Unavailable("out of reach"))
        await asyncio.gather(gone, return_exceptions=True)
        await asyncio.sleep(0)
        assert failures == []

    play(life)


def test_a_failed_read_leaves_nothing_to_the_garbage_collector() -> None:
    """An error refers to the frames that it has passed, and a task to its error."""

    async def fail(_name: str) -> None:
        raise Unavailable("out of reach")

    async def life() -> None:
        with suppress(Unavailable):
            await SharedReads(fail).of("a")

    assert asyncio.run(left_by(life, 20)) == {}


def test_an_error_that_nobody_waits_for_any_more_is_not_logged() -> None:
    """As when the engine is out of reach, and all callers have gone meanwhile."""

    async def life(slow: Slow) -> None:
        logged: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
        gone = slow.call()
        await slow.begin(1)
        gone.cancel()
        await asyncio.wait([gone])
        slow.end(1, Unavailable("Not now."))
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)
        del gone  # It refers to the read.
        gc.collect()
        assert logged == []

    play(life)
