"""Waits of connections: each ends on time, and those of one length share a timer of the loop."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.simulation.loop import VirtualLoop

from channelstream.http.timers import IdleTimer, Waits


class CountingLoop(VirtualLoop):
    """A virtual loop that counts the timers that were set."""

    def __init__(self) -> None:
        super().__init__()
        self.timers = 0

    def call_at(
        self, when: float, callback: Any, *arguments: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        self.timers += 1
        return super().call_at(when, callback, *arguments, context=context)


def play(scene: Callable[[CountingLoop], Awaitable[None]]) -> CountingLoop:
    """Run a scene in virtual time."""
    loop = CountingLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(scene(loop))  # type: ignore[arg-type]
    return loop


async def passed(seconds: float) -> None:
    await asyncio.sleep(seconds)  # virtual time: the clock of `VirtualLoop` is moved


def test_each_wait_ends_after_its_own_time() -> None:
    """Whatever the lengths of the others, and whenever they began."""
    ends: list[tuple[str, float]] = []

    async def scene(loop: CountingLoop) -> None:
        waits = Waits()

        def note(name: str) -> None:
            ends.append((name, round(loop.time(), 3)))

        waits.start(10.0, note, ("a",))
        waits.start(2.0, note, ("b",))
        await passed(3)
        waits.start(10.0, note, ("c",))
        waits.start(2.0, note, ("d",))
        await passed(20)

    play(scene)
    assert ends == [("b", 2.0), ("d", 5.0), ("a", 10.0), ("c", 13.0)]


def test_many_waits_of_one_length_set_one_timer() -> None:
    """Those that are cancelled leave nothing behind, and later ones set the next timer."""
    ends: list[int] = []

    async def scene(_loop: CountingLoop) -> None:
        waits = Waits()
        many = [waits.start(10.0, ends.append, (number,)) for number in range(1000)]
        for wait in many[:-1]:
            wait.cancel()
        row = many[0].row
        assert list(row.waiting) == many[-1:]
        await passed(11)
        assert not row.waiting

    loop = play(scene)
    assert ends == [999]
    assert loop.timers == 2  # One is that of `passed`.


def test_the_time_of_an_idle_connection_begins_again() -> None:
    """With each request, for which no timer of the loop is set; and none ends after `stop`."""
    ends: list[tuple[str, float]] = []

    async def scene(loop: CountingLoop) -> None:
        def note(name: str) -> None:
            ends.append((name, round(loop.time(), 3)))

        busy, stopped = IdleTimer(loop, 10.0), IdleTimer(loop, 10.0)
        stopped.start(note, "stopped")
        stopped.stop()
        for _ in range(4):
            busy.start(note, "busy")
            await passed(4)
        await passed(50)

    loop = play(scene)
    assert ends == [("busy", 22.0)]
    assert loop.timers == 5 + 3 + 1  # Those of `passed`, of the busy one and of the stopped one.


def test_a_wait_may_be_cancelled_by_another_that_ends_with_it() -> None:
    """A call that is due with others can still be cancelled."""
    ends: list[str] = []

    async def scene(_loop: CountingLoop) -> None:
        waits = Waits()
        waits.start(1.0, lambda: second.cancel(), ())
        second = waits.start(1.0, ends.append, ("second",))
        waits.start(1.0, ends.append, ("third",))
        await passed(2)

    play(scene)
    assert ends == ["third"]


def test_a_call_that_fails_keeps_no_other_from_being_made() -> None:
    """The loop reports the failure; waits that end then, or later, end."""
    ends: list[str] = []

    async def scene(loop: CountingLoop) -> None:
        waits = Waits()
        waits.start(1.0, [].remove, ("a thing that is not there",))
        waits.start(1.0, ends.append, ("with it",))
        await passed(0.5)
        waits.start(1.0, ends.append, ("later",))
        await passed(2)
        assert [type(fault) for fault in loop.faults] == [ValueError]

    play(scene)
    assert ends == ["with it", "later"]
