"""When the hub flushes."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.simulation.loop import VirtualLoop, turns

from channelstream.core.rounds import MANY_EVENTS
from channelstream.pacing import FEW_EVENTS, LONG_TURN_S, SHORT_TURN_S, VERY_MANY_EVENTS, FlushPacer
from channelstream.slices import TURN_S


class Flush:
    """A flush that takes a given time, on its own clock."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.takes_s = 0.0
        self.count = 0
        self.parts_left = 0
        self.events = 2
        self.fails = False
        self.done = asyncio.Event()

    def __call__(self) -> bool:
        self.now_s += self.takes_s
        self.count += 1
        self.parts_left -= 1
        self.done.set()
        if self.fails:
            self.fails = False
            raise ValueError("a bug in a transport")
        return self.parts_left > 0

    def waiting(self) -> int:
        return self.events

    def steady(self) -> float:
        return self.now_s


async def after_a_flush(takes_s: float) -> tuple[Flush, FlushPacer]:
    """Return a flush that has taken so long, and its pacer."""
    flush = Flush()
    pacer = FlushPacer(flush, flush.waiting, flush.steady)
    flush.takes_s = takes_s
    pacer.request_flush()
    await turns(2)
    return flush, pacer


def play(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario on a loop whose time does not pass while anything is left to do."""
    loop = VirtualLoop()
    try:
        loop.run_until_complete(scenario())
    finally:
        loop.close()


def test_an_idle_server_flushes_in_the_next_turn_of_the_loop() -> None:
    async def scenario() -> None:
        flush = Flush()
        pacer = FlushPacer(flush, flush.waiting, flush.steady)
        pacer.request_flush()
        await turns(2)
        assert flush.count == 1

    play(scenario)


def test_after_a_long_flush_the_next_one_waits() -> None:
    async def scenario() -> None:
        flush, pacer = await after_a_flush(1.0)
        flush.done.clear()
        pacer.request_flush()
        await turns(5)
        assert flush.count == 1
        await asyncio.wait_for(flush.done.wait(), 10)
        assert flush.count == 2

    play(scenario)


def test_an_event_that_waits_alone_is_flushed_without_a_pause() -> None:
    """A pause would gather nothing; a second event that comes in the same turn makes it worth while."""

    async def scenario() -> None:
        flush, pacer = await after_a_flush(1.0)
        flush.events = 1
        pacer.request_flush()
        await turns(2)
        assert flush.count == 2
        pacer.request_flush()
        flush.events = 2
        await turns(5)
        assert flush.count == 2

    play(scenario)


def test_the_pause_is_over_when_many_events_wait() -> None:
    """Then it is not asked for again; the event that makes them many comes during the pause, or before it."""

    async def scenario() -> None:
        flush, pacer = await after_a_flush(1.0)
        pacer.request_flush()
        await turns(2)
        for _ in range(2):
            pacer.end_pause()
            await turns(2)
            assert flush.count == 2
        await asyncio.sleep(1.0)  # virtual time: the pause would have ended
        assert flush.count == 2
        flush.events = MANY_EVENTS
        pacer.request_flush()
        await turns(2)
        assert flush.count == 3

    play(scenario)


def test_a_pause_that_is_over_is_not_ended_again() -> None:
    async def scenario() -> None:
        flush, pacer = await after_a_flush(1.0)
        pacer.request_flush()
        await asyncio.sleep(1.0)  # virtual time: the pause
        pacer.end_pause()
        await turns(2)
        assert flush.count == 2

    play(scenario)


def test_many_events_without_a_pause_need_no_second_flush() -> None:
    """They wait for a flush that is due, or for one that is being written in parts, after which the hub asks again."""

    async def scenario() -> None:
        flush, pacer = await after_a_flush(1.0)
        pacer.end_pause()
        flush.now_s += 1.0
        flush.parts_left = 3
        pacer.request_flush()
        pacer.end_pause()
        await turns(1)
        pacer.end_pause()
        await turns(5)
        assert flush.count == 4

    play(scenario)


def test_the_pause_is_over_when_half_the_time_has_passed_that_the_flush_took() -> None:
    async def scenario() -> None:
        flush, pacer = await after_a_flush(0.01)
        flush.now_s += 0.006
        pacer.request_flush()
        await turns(2)
        assert flush.count == 2

    play(scenario)


def in_slices(takes_s: float, parts: int, events: int = 2) -> list[int]:
    """Return how many slices of a flush are done after each of six turns of the loop, while so many events wait."""
    counts: list[int] = []

    async def scenario() -> None:
        flush = Flush()
        pacer = FlushPacer(flush, flush.waiting, flush.steady)
        flush.takes_s = takes_s
        flush.parts_left = parts
        flush.events = events
        pacer.request_flush()
        for _ in range(6):
            await turns(1)
            counts.append(flush.count)

    play(scenario)
    return counts


def test_pending_writes_are_flushed_in_slices_without_a_pause() -> None:
    assert in_slices(1.0, 3) == [1, 2, 3, 3, 3, 3]


def test_a_flush_that_fails_is_logged_and_brought_to_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """The hub asks for no flush while one is due: one that was given up would silence the node for good."""

    async def scenario() -> None:
        flush = Flush()
        pacer = FlushPacer(flush, flush.waiting, flush.steady)
        flush.fails = True
        flush.parts_left = 3
        pacer.request_flush()
        await turns(6)
        assert flush.count == 3

    play(scenario)
    assert "a bug in a transport" in caplog.text


def test_each_part_of_a_flush_reports_the_age_of_its_oldest_event() -> None:
    """From the arrival of the first event, also where the flush had to wait; nothing is counted twice."""

    async def scenario() -> list[float]:
        flush, ages = Flush(), list[float]()
        pacer = FlushPacer(flush, flush.waiting, flush.steady, ages.append)
        flush.takes_s, flush.parts_left, flush.events = 0.5, 3, 0
        pacer.request_flush()
        flush.now_s += 2.0
        await turns(4)
        return ages

    assert play_for(scenario) == [2.5, 3.0, 3.5]


def test_an_event_that_arrives_between_two_parts_is_as_old_as_the_end_of_the_first() -> None:
    """At most: it arrived after that, and it is written with the next flush."""

    async def scenario() -> list[float]:
        flush, ages = Flush(), list[float]()

        def last_part_asks_again() -> bool:
            more = flush()
            if not more and flush.count == 3:
                pacer.request_flush()
            return more

        pacer = FlushPacer(last_part_asks_again, flush.waiting, flush.steady, ages.append)
        flush.takes_s, flush.parts_left, flush.events = 0.5, 3, 0
        pacer.request_flush()
        await turns(1)
        flush.events = 1
        await turns(6)
        return ages

    assert play_for(scenario) == [0.5, 1.0, 1.5, 1.5]


def play_for(scenario: Callable[[], Coroutine[Any, Any, list[float]]]) -> list[float]:
    """Return the result of a scenario that is played."""
    found: list[float] = []

    async def kept() -> None:
        found.extend(await scenario())

    play(kept)
    return found


def test_short_slices_share_a_turn_of_the_loop() -> None:
    """So a flush of many connections gives way to other work when it has lasted for long, however long a write takes."""
    assert in_slices(TURN_S / 2, 5, events=FEW_EVENTS + 1) == [2, 4, 5, 5, 5, 5]
    assert in_slices(TURN_S, 5, events=VERY_MANY_EVENTS - 1) == [1, 2, 3, 4, 5, 5]


def test_a_turn_is_short_while_few_events_wait() -> None:
    """Then a call that comes meanwhile waits for a part of the flush only."""
    assert in_slices(SHORT_TURN_S / 2, 5, events=FEW_EVENTS) == [2, 4, 5, 5, 5, 5]
    assert in_slices(SHORT_TURN_S, 5, events=FEW_EVENTS) == [1, 2, 3, 4, 5, 5]


def test_a_turn_is_long_while_very_many_events_wait() -> None:
    """They are enough for the next flush; those of calls in between would make it longer, and so the one after it."""
    assert in_slices(LONG_TURN_S / 2, 5, events=VERY_MANY_EVENTS) == [2, 4, 5, 5, 5, 5]
    assert in_slices(LONG_TURN_S, 5, events=VERY_MANY_EVENTS) == [1, 2, 3, 4, 5, 5]
