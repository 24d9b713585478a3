"""One connection that joins, or leaves, very many channels: in short turns of the loop, and all of them or none."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.engines.conformance import EMPTY, Recorder, Setup, message
from tests.engines.test_memory import memory_engine
from tests.engines.test_sqlite import ANN, sqlite_engine
from tests.simulation.loop import turns

from channelstream import slices
from channelstream.core.events import Presence
from channelstream.engines.memory import MemoryEngine
from channelstream.engines.sqlite import SqliteEngine
from channelstream.errors import Unavailable

LOUD = {f"c{number}": {"notify_presence": True} for number in range(20)}
InProcess = MemoryEngine | SqliteEngine
Life = Callable[[InProcess, Recorder], Awaitable[None]]


@pytest.fixture(params=["memory", "sqlite"])
def live(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Life], None]:
    """Return what lives with an engine that knows ann; each turn of its work is as short as can be."""

    def live(life: Life) -> None:
        async def whole() -> None:
            setup, recorder = Setup(), Recorder()
            engine: InProcess = (
                memory_engine(setup) if request.param == "memory" else sqlite_engine(tmp_path / "a.db", setup)
            )
            await engine.start(recorder)
            await engine.connect(ANN, EMPTY)
            await life(engine, recorder)
            await engine.close()

        asyncio.run(whole())

    return live


@pytest.fixture(autouse=True)
def _short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "TURN_S", -1.0)


def members(engine: InProcess) -> int:
    """Return in how many channels ann is counted."""
    return sum("ann" in channel.users for channel in engine.registry.channels.values())


async def steps(engine: InProcess, work: Coroutine[Any, Any, Any]) -> list[int]:
    """Return in how many channels ann is after each turn of the loop."""
    task, found = asyncio.create_task(work), [members(engine)]
    while not task.done():
        await asyncio.sleep(0)
        found.append(members(engine))
    await task
    return found


def announced(recorder: Recorder) -> list[tuple[str | None, bool]]:
    events = (entry.event for entry in recorder.entries)
    return [(event.channel, event.joined) for event in events if isinstance(event, Presence)]


def test_others_have_their_turn_in_between(live: Callable[[Life], None]) -> None:
    """Each channel is joined and left once, and says so."""

    async def life(engine: InProcess, recorder: Recorder) -> None:
        joining = await steps(engine, engine.join(ANN, LOUD))
        leaving = await steps(engine, engine.leave(ANN, list(LOUD)))
        if isinstance(engine, SqliteEngine):
            await engine.settled()
        for counts, last in ((joining, len(LOUD)), (leaving, 0)):
            assert max(abs(after - before) for before, after in pairwise(counts)) == 1
            assert counts[-1] == last
        assert announced(recorder) == [*((name, True) for name in LOUD), *((name, False) for name in LOUD)]

    live(life)


def test_a_channel_is_joined_at_the_number_of_its_turn(live: Callable[[Life], None]) -> None:
    """What is said in it meanwhile, before it is joined, is not the connection's; what is said after that is."""

    async def life(engine: InProcess, recorder: Recorder) -> None:
        await engine.join(ANN, {"early": {}})
        joining = asyncio.create_task(engine.join(ANN, {**LOUD, "late": {}}))
        await turns(3)
        await engine.publish([message("before", channel="late")])
        joined = await joining
        (number,) = engine.position.seqs
        await engine.publish([message("after", channel="late")])
        before = next(entry.seq for entry in recorder.entries if entry.event.uuid == "before")
        if isinstance(engine, MemoryEngine):  # The others are handed it after that: nothing is lost then.
            assert joined["c0"] < before <= joined["late"] <= number
        assert joined.keys() == {*LOUD, "late"}

    live(life)


@pytest.mark.parametrize("is_in", [False, True])
def test_who_is_cancelled_has_done_nothing(live: Callable[[Life], None], is_in: bool) -> None:
    """Whoever heard the one hears the other, too."""

    async def life(engine: InProcess, recorder: Recorder) -> None:
        if is_in:
            await engine.join(ANN, LOUD)
        before = members(engine)
        task = asyncio.create_task(engine.leave(ANN, list(LOUD)) if is_in else engine.join(ANN, LOUD))
        while members(engine) == before:
            await asyncio.sleep(0)
        await turns(2)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert members(engine) == before
        if isinstance(engine, SqliteEngine):
            await engine.settled()
        told = dict(announced(recorder))
        assert [name for name, joined in told.items() if joined] == (list(LOUD) if is_in else [])

    live(life)


def test_a_change_of_settings_that_is_not_written_yet_is_waited_for(tmp_path: Path) -> None:
    """Also where it comes while the first channels are joined, or left: it may be taken back."""

    async def life() -> None:
        engine = sqlite_engine(tmp_path / "a.db", Setup())
        await engine.start(Recorder())
        await engine.connect(ANN, EMPTY)
        await engine.configure({"c19": LOUD["c19"]})
        for work in (lambda: engine.join(ANN, LOUD), lambda: engine.leave(ANN, list(LOUD))):
            file, transact = engine._file, engine._file._transact
            task = asyncio.create_task(work())
            await turns(3)
            file._transact = _refuse  # type: ignore[method-assign]
            count = members(engine)
            with pytest.raises(Unavailable):
                await engine.configure({"c19": {"notify_presence": False}})
            file._transact = transact  # type: ignore[method-assign]
            assert abs(members(engine) - count) <= 2
            await task
            assert engine.registry.channels["c19"].settings.notify_presence
        await engine.close()

    asyncio.run(life())


def _refuse(_writes: object) -> None:
    raise OSError("full")
