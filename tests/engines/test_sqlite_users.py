"""A changed state is announced in short turns of the event loop, and written in one batch with what announces it."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count, pairwise
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from tests.engines.conformance import Recorder, message
from tests.engines.sqlite_runs import Runs
from tests.engines.test_announcing import ANN, NAMES, SETTINGS, TABLET, announced, mood
from tests.simulation.loop import turns

from channelstream import slices
from channelstream.engines import group_commit
from channelstream.engines.members import Leaving, Member
from channelstream.engines.sqlite import SqliteEngine
from channelstream.errors import Unavailable

Life = Callable[[SqliteEngine, Recorder], Awaitable[None]]


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Life], None]:
    """Run a test with an engine in which ann is in twenty channels; each event takes a turn, and ten fill a batch."""
    monkeypatch.setattr(slices, "TURN_S", -1.0)
    monkeypatch.setattr(group_commit, "BATCH_ROWS", 10)

    def live(life: Life) -> None:
        async def whole() -> None:
            engine, recorder = await Runs(tmp_path / "state.db").open()
            await engine.connect(ANN, mood(0))
            await engine.join(ANN, dict.fromkeys(NAMES, SETTINGS))
            await engine.flush()
            recorder.entries.clear()
            await life(engine, recorder)
            await engine.close()

        asyncio.run(whole())

    return live


def writes_of(engine: SqliteEngine, works: Callable[[int], bool] = lambda _: True) -> list[int]:
    """Count the rows of each write from now on; those fail whose number does not work."""
    write, found = engine._file.write, list[int]()

    def counted(writes: Any, **more: Any) -> None:
        found.append(sum(len(rows) for _, rows in writes))
        if not works(len(found)):
            raise OSError("the disk is full")
        write(writes, **more)

    engine._file.write = counted  # type: ignore[method-assign]
    return found


@pytest.mark.parametrize("connects", [False, True])
def test_a_state_is_announced_in_short_turns_and_written_at_once(live: Any, connects: bool) -> None:
    """Also beyond the size of a batch."""

    async def life(engine: SqliteEngine, recorder: Recorder) -> None:
        writes = writes_of(engine)
        change = engine.connect(TABLET, mood(1)) if connects else engine.update_user("ann", mood(1))
        task, counts = asyncio.ensure_future(change), [engine._log.assigned]
        while counts[-1] < counts[0] + len(NAMES):
            await asyncio.sleep(0)
            counts.append(engine._log.assigned)
        assert max(after - before for before, after in pairwise(counts)) <= 2
        await task
        assert (len(writes), announced(recorder)) == (1, [(name, 1) for name in NAMES])

    live(life)


@pytest.mark.parametrize("connects", [False, True])
def test_a_refused_state_is_announced_to_nobody(live: Any, connects: bool) -> None:
    """Whichever write fails: it has all events of the change or none."""

    async def life(engine: SqliteEngine, recorder: Recorder) -> None:
        for failing in (1, 2):
            writes_of(engine, lambda number, failing=failing: number != failing)  # type: ignore[misc]
            await engine.publish([message("m1")] * (failing - 1))
            change = engine.connect(TABLET, mood(1)) if connects else engine.update_user("ann", mood(1))
            with pytest.raises(Unavailable):
                await change
            assert engine.registry.users["ann"].state == {"mood": 0}
        assert announced(recorder) == []

    live(life)


def test_a_write_that_fails_meanwhile_ends_the_announcement(live: Any) -> None:
    """It takes back the state with the batch that is still open; the next change is announced as usual."""

    async def life(engine: SqliteEngine, recorder: Recorder) -> None:
        announcing = Event()
        writes_of(engine, lambda number: number > 1 or not announcing.wait())
        publishing = asyncio.ensure_future(engine.publish([message("m1")]))
        while engine._commits._writing is None:
            await asyncio.sleep(0)
        changing = asyncio.ensure_future(engine.update_user("ann", mood(1)))
        await turns(5)
        assert "ann" in engine._log.announcements.waiting
        announcing.set()
        outcomes = await asyncio.gather(publishing, changing, return_exceptions=True)
        assert [type(each) for each in outcomes] == [Unavailable, Unavailable]
        assert engine.registry.users["ann"].state == {"mood": 0}
        await engine.update_user("ann", mood(2))
        assert announced(recorder) == [(name, 2) for name in NAMES]

    live(life)


def test_two_changes_of_a_user_are_announced_in_their_order(live: Any) -> None:
    """The second one waits; others are written with the first."""

    async def life(engine: SqliteEngine, recorder: Recorder) -> None:
        first = asyncio.ensure_future(engine.update_user("ann", mood(1)))
        await turns(3)
        await asyncio.gather(engine.update_user("ann", mood(2)), engine.publish([message("m1")]), first)
        assert announced(recorder) == [*((name, 1) for name in NAMES), *((name, 2) for name in NAMES)]

    live(life)


@pytest.mark.parametrize("ends", [False, True])
def test_a_channel_receives_the_state_before_the_leave(live: Any, ends: bool) -> None:
    """A state after it would show a user who is no longer there."""

    async def life(engine: SqliteEngine, recorder: Recorder) -> None:
        changing = asyncio.ensure_future(engine.update_user("ann", mood(1)))
        await turns(3)
        assert "ann" in engine._log.announcements.waiting
        left = NAMES[-2:]
        leave = engine.disconnect_all([Leaving(ANN, left)]) if ends else engine.leave(ANN, left)
        await asyncio.gather(leave, changing)
        await engine.flush()
        assert announced(recorder) == [*((name, 1) for name in NAMES), *((name, False) for name in left)]

    live(life)


def test_a_batch_is_kept_open_once(live: Any) -> None:
    """A second user whose state changes meanwhile is announced in one turn: else the batch could stay open for ever."""

    async def life(engine: SqliteEngine, recorder: Recorder) -> None:
        bob = Member("3", "bob", ANN.protocol)
        await engine.connect(bob, mood(0))
        await engine.join(bob, dict.fromkeys(NAMES, SETTINGS))
        recorder.entries.clear()
        writes = writes_of(engine)
        first = asyncio.ensure_future(engine.update_user("ann", mood(1)))
        await turns(3)
        await asyncio.gather(engine.update_user("bob", mood(2)), first)
        assert (len(writes), len(announced(recorder))) == (1, 2 * len(NAMES))
        assert not engine._commits.is_held

    live(life)


def test_a_fault_while_a_state_is_announced_holds_nobody_up(live: Any) -> None:
    """The next change of the user announces the rest, and its own."""

    async def life(engine: SqliteEngine, recorder: Recorder) -> None:
        announcements, calls = engine._log.announcements, count(1)
        accept = announcements._accept

        def faulty(event: Any) -> None:
            if next(calls) == 5:
                raise RuntimeError("a bug")
            accept(event)

        announcements._accept = faulty
        with pytest.raises(RuntimeError, match="a bug"):
            await engine.update_user("ann", mood(1))
        await engine.update_user("ann", mood(2))
        found = announced(recorder)
        assert [name for name, value in found if value == 1] == [*NAMES[:4], *NAMES[5:]]
        assert [name for name, value in found if value == 2] == NAMES

    live(life)
