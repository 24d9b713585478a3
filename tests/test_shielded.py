"""Work that goes on when a caller is cancelled."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from channelstream.shielded import result_of, retrieve, to_its_end


def play(life: Callable[[], Awaitable[None]]) -> list[object]:
    """Run it, and return what asyncio would log."""
    logged: list[object] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context["message"]))
        await life()

    asyncio.run(run())
    return logged


def test_all_who_wait_are_sent_the_result() -> None:
    async def life() -> None:
        work = asyncio.get_running_loop().create_future()
        callers = [asyncio.create_task(result_of(work)) for _ in range(2)]
        await asyncio.sleep(0)
        work.set_result(7)
        assert await asyncio.gather(*callers) == [7, 7]
        assert await result_of(work) == 7

    assert play(life) == []


def test_work_goes_on_without_a_caller_that_is_cancelled() -> None:
    """Its error is sent to the others, and logged by nobody."""

    async def life() -> None:
        work = asyncio.get_running_loop().create_future()
        work.add_done_callback(retrieve)
        gone, stays = (asyncio.create_task(result_of(work)) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
        assert gone.cancelled() and not work.done()
        work.set_exception(OSError("out of reach"))
        with pytest.raises(OSError, match="out of reach"):
            await stays

    assert play(life) == []


def test_an_error_that_nobody_waits_for_is_not_logged() -> None:
    async def life() -> None:
        work = asyncio.get_running_loop().create_future()
        work.add_done_callback(retrieve)
        gone = asyncio.create_task(result_of(work))
        await asyncio.sleep(0)
        gone.cancel()
        work.set_exception(OSError("out of reach"))
        await asyncio.wait([gone])
        del work, gone

    assert play(life) == []


def test_work_that_must_not_stop_half_way_comes_to_its_end() -> None:
    async def life() -> None:
        half, done = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            await half.wait()
            done.set()

        caller = asyncio.create_task(to_its_end(work()))
        await asyncio.sleep(0)
        caller.cancel()
        await asyncio.wait([caller])
        half.set()
        await done.wait()

    assert play(life) == []
