"""Coroutines whose first step runs at once behave as tasks do."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import pytest
import uvloop

from channelstream.http.eager import run_eagerly

VARIABLE = ContextVar("VARIABLE", default="outside")
LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def play(request: Any) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Return a function that runs a scene in one of the loops."""

    def run(scene: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(scene)

    return run


Play = Callable[[Coroutine[Any, Any, None]], None]


async def started(work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
    """Start work as a connection does: in a callback of the loop, outside of any task."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[asyncio.Task[None] | None] = loop.create_future()
    loop.call_soon(lambda: result.set_result(run_eagerly(work, loop)))
    return await result


async def waits(until: Awaitable[Any], notes: list[Any]) -> None:
    """Wait for something; note each step, and how it ends."""
    notes.append("begins")
    try:
        notes.append(await until)
    except BaseException as error:
        notes.append(type(error))
        raise


def test_work_that_does_not_wait_is_done_at_once(play: Play) -> None:
    """There is no task then."""

    async def work(notes: list[str]) -> None:
        notes.append("done")

    async def scene() -> None:
        notes: list[str] = []
        assert await started(work(notes)) is None
        assert notes == ["done"]

    play(scene())


@pytest.mark.parametrize("is_early", [True, False])
def test_work_that_waits_becomes_a_task(play: Play, is_early: bool) -> None:
    """Whether what it waits for is there before the task runs or after it."""

    async def scene() -> None:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        notes: list[Any] = []
        if is_early:
            asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, future.set_result, "x")
        task = await started(waits(future, notes))
        assert task is not None
        if not is_early:
            await asyncio.sleep(0)
            assert notes == ["begins"]
            future.set_result("x")
        await task
        assert notes == ["begins", "x"]

    play(scene())


def test_it_may_wait_many_times_for_many_things(play: Play) -> None:
    """Sleeps, events, threads, other tasks."""

    async def work(notes: list[int]) -> None:
        for number in range(3):
            await asyncio.sleep(0)
            notes.append(await asyncio.to_thread(lambda number=number: number))
        await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))

    async def scene() -> None:
        notes: list[int] = []
        task = await started(work(notes))
        assert task is not None
        await task
        assert notes == [0, 1, 2]

    play(scene())


def test_errors_are_raised_where_they_belong(play: Play) -> None:
    """That of the awaited future in the work, that of the work from the task or the call."""

    async def fail() -> None:
        raise LookupError

    async def scene() -> None:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        notes: list[Any] = []
        task = await started(waits(future, notes))
        assert task is not None
        future.set_exception(KeyError())
        with pytest.raises(KeyError):
            await task
        assert notes == ["begins", KeyError]
        raised: list[BaseException] = []

        def start() -> None:
            try:
                run_eagerly(fail(), asyncio.get_running_loop())
            except LookupError as error:
                raised.append(error)

        asyncio.get_running_loop().call_soon(start)
        await asyncio.sleep(0)
        assert len(raised) == 1

    play(scene())


@pytest.mark.parametrize("turns", [0, 2])
def test_a_cancelled_task_cancels_its_work(play: Play, turns: int) -> None:
    """Before the task has run for the first time, too."""

    async def scene() -> None:
        notes: list[Any] = []
        task = await started(waits(asyncio.Event().wait(), notes))
        assert task is not None
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert notes == ["begins", asyncio.CancelledError]

    play(scene())


@pytest.mark.parametrize("kind", ["timeout", "wait_for", "nested"])
def test_timeouts_that_begin_in_the_first_step_end_the_wait(play: Play, kind: str) -> None:
    """Also one in another, and the work continues after it."""

    async def work(notes: list[Any]) -> None:
        never = asyncio.Event()
        try:
            if kind == "wait_for":
                await asyncio.wait_for(never.wait(), 0.001)
            elif kind == "timeout":
                async with asyncio.timeout(0.001):
                    await never.wait()
            else:
                async with asyncio.timeout(3600), asyncio.timeout(0.001):
                    await never.wait()
        except TimeoutError:
            notes.append("timed out")
        await asyncio.sleep(0)
        notes.append("continues")

    async def scene() -> None:
        notes: list[Any] = []
        task = await started(work(notes))
        assert task is not None
        await task
        assert notes == ["timed out", "continues"]
        assert task.cancelling() == 0

    play(scene())


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_a_timeout_may_end_before_the_task_has_run(play: Play, turns: int) -> None:
    """Its time may be over in the same turn: the task is cancelled at its beginning, and the work goes on."""

    async def work(notes: list[Any]) -> None:
        timeout = asyncio.timeout(None)
        inner = asyncio.get_running_loop().create_future()
        try:
            async with timeout:
                notes.append((timeout, inner))
                await inner
        except TimeoutError:
            notes.append(inner.cancelled())
        await asyncio.sleep(0)
        notes.append("continues")

    async def scene() -> None:
        notes: list[Any] = []
        loop = asyncio.get_running_loop()
        begun: asyncio.Future[Any] = loop.create_future()

        def begin() -> None:
            task = run_eagerly(work(notes), loop)
            expire(turns)
            begun.set_result(task)

        def expire(after: int) -> None:
            if after:
                loop.call_soon(expire, after - 1)
            else:
                notes[0][0]._on_timeout()

        loop.call_soon(begin)
        await (await begun)
        assert notes[1:] == [True, "continues"]

    play(scene())


def test_a_timeout_that_does_not_end_leaves_no_trace(play: Play) -> None:
    """In the first step, or over several."""

    async def work(sleeps: bool) -> None:
        async with asyncio.timeout(3600):
            if sleeps:
                await asyncio.sleep(0)

    async def scene() -> None:
        assert await started(work(False)) is None
        task = await started(work(True))
        assert task is not None
        await task

    play(scene())


def test_context_variables_of_the_work_are_its_own(play: Play) -> None:
    """They last over its waits, and nobody else sees them."""

    async def work(notes: list[str]) -> None:
        VARIABLE.set("inside")
        await asyncio.sleep(0)
        notes.append(VARIABLE.get())

    async def scene() -> None:
        notes: list[str] = []
        task = await started(work(notes))
        assert task is not None
        asyncio.get_running_loop().call_soon(lambda: notes.append(VARIABLE.get()))
        await task
        assert sorted(notes) == ["inside", "outside"]
        assert VARIABLE.get() == "outside"

    play(scene())


def test_within_a_task_it_is_a_task_of_its_own(play: Play) -> None:
    """The current task of the caller does not change, and is not that of the work."""

    async def work(notes: list[Any]) -> None:
        notes.append(asyncio.current_task())

    async def scene() -> None:
        notes: list[Any] = []
        task = run_eagerly(work(notes), asyncio.get_running_loop())
        assert notes == []
        assert task is not None
        await task
        assert notes == [task]

    play(scene())


def test_no_task_is_current_after_the_first_step(play: Play) -> None:
    """The next callback of the loop is in none."""

    async def scene() -> None:
        current: list[Any] = []
        task = await started(waits(asyncio.sleep(0), []))
        asyncio.get_running_loop().call_soon(lambda: current.append(asyncio.current_task()))
        assert task is not None
        await task
        await asyncio.sleep(0)
        assert current == [None]

    play(scene())
