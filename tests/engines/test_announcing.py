"""A state that is announced to very many channels: in short turns, and to each in the order of the changes."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest
from tests.engines.conformance import Recorder, Setup
from tests.engines.test_memory import memory_engine
from tests.simulation.loop import turns

from channelstream import slices
from channelstream.core.events import Presence, UserStateChanged
from channelstream.core.user import UserUpdate
from channelstream.engines.members import Leaving, Member
from channelstream.engines.memory import MemoryEngine
from channelstream.wire.channelstream import V07

NAMES = [f"c{number:02}" for number in range(20)]
SETTINGS = {"notify_state": True, "notify_presence": True}
ANN, TABLET = Member("1", "ann", V07), Member("2", "ann", V07)
Announced = list[tuple[str, Any]]


def mood(value: Any) -> UserUpdate:
    return UserUpdate({"mood": value}, {}, ["mood"])


def announced(recorder: Recorder) -> Announced:
    """Return for each event of the channels its channel, and the mood or whether it is a join."""
    found: Announced = []
    for entry in recorder.entries:
        event = entry.event
        if isinstance(event, UserStateChanged):
            found.append((event.channel, event.state["mood"]))
            assert event.changed == (("mood", event.state["mood"]),)
        elif isinstance(event, Presence):
            found.append((event.channel, event.joined))
    return found


@pytest.fixture
def live(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Callable[[MemoryEngine, Recorder], Awaitable[None]]], None]:
    """Return what lives with an engine in which ann is in twenty channels; each event takes a turn."""
    monkeypatch.setattr(slices, "TURN_S", -1.0)

    def live(life: Callable[[MemoryEngine, Recorder], Awaitable[None]]) -> None:
        async def whole() -> None:
            engine, recorder = memory_engine(Setup()), Recorder()
            await engine.start(recorder)
            await engine.connect(ANN, mood(0))
            await engine.join(ANN, dict.fromkeys(NAMES, SETTINGS))
            recorder.entries.clear()
            await life(engine, recorder)

        asyncio.run(whole())

    return live


async def half_way(work: Any) -> "asyncio.Task[Any]":
    """Begin a change, and return once some channels have received it."""
    task = asyncio.create_task(work)
    await turns(5)
    return task


def test_other_tasks_run_between_the_channels(live: Any) -> None:
    """Each channel receives one event, in the order of the names."""

    async def life(engine: MemoryEngine, recorder: Recorder) -> None:
        task, counts = asyncio.create_task(engine.update_user("ann", mood(1))), [0]
        while not task.done():
            await asyncio.sleep(0)
            counts.append(len(recorder.entries))
        assert max(after - before for before, after in pairwise(counts)) == 1
        assert announced(recorder) == [(name, 1) for name in NAMES]

    live(life)


@pytest.mark.parametrize("call", ["update", "connect", "join", "leave", "disconnect"])
def test_other_tasks_run_while_two_calls_of_a_user_overlap(live: Any, call: str) -> None:
    """The second call waits for the announcement of the first, and does not do the rest of it in one turn."""

    async def life(engine: MemoryEngine, recorder: Recorder) -> None:
        first = await half_way(engine.update_user("ann", mood(1)))
        second = asyncio.create_task(
            {
                "update": lambda: engine.update_user("ann", mood(2)),
                "connect": lambda: engine.connect(TABLET, mood(2)),
                "join": lambda: engine.join(ANN, {"a new one": SETTINGS}),
                "leave": lambda: engine.leave(ANN, NAMES[:1]),
                "disconnect": lambda: engine.disconnect_all([Leaving(ANN, NAMES)]),
            }[call]()
        )
        counts = [len(recorder.entries)]
        while not (first.done() and second.done()):
            await asyncio.sleep(0)
            counts.append(len(recorder.entries))
        assert max(after - before for before, after in pairwise(counts)) <= 2

    live(life)


def test_no_connection_is_registered_at_once_while_a_state_is_announced(live: Any) -> None:
    """It would do the rest of the announcement in one turn."""

    async def life(engine: MemoryEngine, recorder: Recorder) -> None:
        changing = await half_way(engine.update_user("ann", mood(1)))
        before = len(recorder.entries)
        assert engine.connect_at_once(TABLET, mood(1)) is None
        assert len(recorder.entries) == before
        await changing
        assert engine.connect_at_once(TABLET, mood(1)) is not None

    live(life)


def test_a_connection_whose_state_cannot_be_announced_is_not_registered(live: Any) -> None:
    """An error of the receiver ends the call, and the user is not counted for ever."""

    async def life(engine: MemoryEngine, recorder: Recorder) -> None:
        def fail(_entry: Any) -> None:
            raise ValueError("a bug in the receiver")

        recorder.deliver = fail  # type: ignore[method-assign]
        with pytest.raises(ValueError, match="a bug in the receiver"):
            await engine.connect(TABLET, mood(1))
        assert engine.registry.users["ann"].connections == 1

    live(life)


@pytest.mark.parametrize("connects", [False, True])
def test_changes_reach_each_channel_in_their_order(live: Any, connects: bool) -> None:
    """Also one that a second connection of the user makes: it comes after all of the first."""

    async def life(engine: MemoryEngine, recorder: Recorder) -> None:
        first = await half_way(engine.update_user("ann", mood(1)))
        assert 0 < len(recorder.entries) < len(NAMES)
        second = engine.connect(TABLET, mood(2)) if connects else engine.update_user("ann", mood(2))
        await asyncio.gather(first, second)
        assert announced(recorder) == [*((name, 1) for name in NAMES), *((name, 2) for name in NAMES)]

    live(life)


@pytest.mark.parametrize("call", ["leave", "disconnect_all"])
def test_a_channel_receives_the_state_before_the_leave(live: Any, call: str) -> None:
    """A state after it would show a user who is no longer there."""

    async def life(engine: MemoryEngine, recorder: Recorder) -> None:
        changing = await half_way(engine.update_user("ann", mood(1)))
        if call == "leave":
            await engine.leave(ANN, NAMES[-2:])
        else:
            await engine.disconnect_all([Leaving(ANN, NAMES[-2:])])
        await changing
        states, leaves = [(name, 1) for name in NAMES], [(name, False) for name in NAMES[-2:]]
        assert announced(recorder) == [*states, *leaves]

    live(life)


def test_a_channel_that_is_joined_meanwhile_receives_the_state_with_the_join(live: Any) -> None:
    """It receives it once; the other channels have received it before."""

    async def life(engine: MemoryEngine, recorder: Recorder) -> None:
        await engine.connect(TABLET, UserUpdate({}, {}))
        changing = await half_way(engine.update_user("ann", mood(1)))
        await engine.join(TABLET, {"a new one": SETTINGS})
        await changing
        assert announced(recorder) == [*((name, 1) for name in NAMES), ("a new one", True)]
        joined = recorder.entries[-1].event
        assert isinstance(joined, Presence)
        assert joined.state == {"mood": 1}

    live(life)


@pytest.mark.parametrize("connects", [False, True])
def test_a_cancelled_change_is_announced_to_all(live: Any, connects: bool) -> None:
    """The state has changed. A connection whose caller is gone is not registered."""

    async def life(engine: MemoryEngine, recorder: Recorder) -> None:
        change = engine.connect(TABLET, mood(1)) if connects else engine.update_user("ann", mood(1))
        task = await half_way(change)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await turns(len(NAMES) + 5)
        assert announced(recorder) == [(name, 1) for name in NAMES]
        assert engine.registry.users["ann"].connections == 1
        assert not engine._log.announcements.waiting

    live(life)
