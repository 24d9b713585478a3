"""Very many channels that are joined, left or read: in short turns of the loop."""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.engines.conformance import EMPTY, Recorder, Setup, message
from tests.engines.many_channels import LOUD, InProcess, Life, announced, steps
from tests.engines.sqlite_runs import ANN, sqlite_engine
from tests.engines.test_memory import memory_engine
from tests.simulation.loop import turns

from channelstream import slices
from channelstream.core.budget import EXPIRY_BATCH
from channelstream.engines import sqlite_members
from channelstream.engines.members import Leaving, Member
from channelstream.engines.memory import MemoryEngine
from channelstream.engines.sqlite import SqliteEngine
from channelstream.wire.channelstream import V07


@pytest.fixture(autouse=True)
def _short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "TURN_S", -1.0)


@pytest.mark.parametrize("ends", [False, True])
def test_other_tasks_run_in_between(live: Callable[[Life], None], ends: bool) -> None:
    """Each channel is joined and left once, and announces both."""

    async def life(engine: InProcess, recorder: Recorder) -> None:
        joining = await steps(engine, engine.join(ANN, LOUD))
        end = engine.disconnect(ANN, list(LOUD)) if ends else engine.leave(ANN, list(LOUD))
        leaving = await steps(engine, end)
        if isinstance(engine, SqliteEngine):
            await engine.flush()
        for counts, last in ((joining, len(LOUD)), (leaving, 0)):
            assert max(abs(after - before) for before, after in pairwise(counts)) == 1
            assert counts[-1] == last
        assert announced(recorder) == [*((name, True) for name in LOUD), *((name, False) for name in LOUD)]

    live(life)


def test_other_tasks_run_before_and_after_many_channels_are_joined_or_left(
    live: Callable[[Life], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the caller does for each channel before and afterwards is not in the same loop turn."""
    monkeypatch.setattr(slices, "MANY", len(LOUD))

    async def life(engine: InProcess, recorder: Recorder) -> None:
        for work in (lambda: engine.join(ANN, LOUD), lambda: engine.leave(ANN, list(LOUD))):
            counts = await steps(engine, work())
            assert counts[0] == counts[1] != counts[2]
            assert counts[-2] == counts[-1]

    live(life)


def test_other_tasks_run_between_channels_whose_logs_are_dropped() -> None:
    """A change of settings may drop the whole log of each. The memory engine has no failed write to take back."""

    async def life() -> None:
        engine = memory_engine(Setup())
        await engine.start(Recorder())
        await engine.publish([message(f"in {name}", channel=name) for name in LOUD])
        await engine.configure({name: {"log_events": 9} for name in LOUD})
        await engine.publish([message(f"in {name}", channel=name) for name in LOUD])
        changing = asyncio.create_task(engine.configure({name: {"log_events": 0} for name in LOUD}))
        kept = [len(LOUD)]
        while not changing.done():
            await asyncio.sleep(0)
            kept.append(sum(len(channel.log.entries) for channel in engine.registry.channels.values()))
        assert max(before - after for before, after in pairwise(kept)) == 1
        assert kept[-1] == 0

    asyncio.run(life())


def test_a_replay_of_many_channels_has_loop_turns_of_its_own(
    live: Callable[[Life], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is before the read, and one after it if it found many entries."""
    monkeypatch.setattr(slices, "MANY", len(LOUD))

    async def life(engine: InProcess, recorder: Recorder) -> None:
        await engine.join(ANN, LOUD)
        if isinstance(engine, SqliteEngine):
            await engine.flush()
        (head,) = engine.position.offsets
        await engine.publish([message(f"in {name}", channel=name) for name in LOUD])
        for names, limit, expected in ((list(LOUD), 20, 2), (list(LOUD), 19, 1), (["c1"], 20, 0)):
            reading = asyncio.create_task(engine.replay("ann", dict.fromkeys(names, head), limit))
            await asyncio.sleep(0)
            count = 0
            while not reading.done():
                await asyncio.sleep(0)
                count += 1
            assert (count, len(reading.result().entries)) == (expected, min(limit, len(names)))

    live(life)


def test_a_replay_of_more_channels_than_its_limit_skips_nothing(live: Callable[[Life], None]) -> None:
    """The parts of all channels follow each other in the order in which they were accepted."""

    async def life(engine: InProcess, recorder: Recorder) -> None:
        await engine.join(ANN, {name: {} for name in LOUD})
        uuids = [f"{number}" for number in range(50)]
        await engine.publish([message(uuid, channel=f"c{int(uuid) * 7 % 20}") for uuid in uuids])
        found, read_to = list[str](), (0,)
        while read_to != engine.position.offsets:
            replay = await engine.replay("ann", dict.fromkeys(LOUD, read_to[0]), 3)
            assert len(replay.entries) <= 3
            found += [entry.event.uuid for entry in replay.entries]
            read_to = replay.read_to
        assert found == uuids

    live(life)


def test_a_channel_is_joined_at_the_offset_of_its_turn(live: Callable[[Life], None]) -> None:
    """Messages from before the join are not delivered to the connection; later ones are."""

    async def life(engine: InProcess, recorder: Recorder) -> None:
        await engine.join(ANN, {"early": {}})
        joining = asyncio.create_task(engine.join(ANN, {**LOUD, "late": {}}))
        await turns(3)
        await engine.publish([message("before", channel="late")])
        joined = await joining
        (number,) = engine.position.offsets
        await engine.publish([message("after", channel="late")])
        before = next(entry.offset for entry in recorder.entries if entry.event.uuid == "before")
        if isinstance(engine, MemoryEngine):  # The others are handed it after that: nothing is lost then.
            assert joined["c0"] < before <= joined["late"] <= number
        assert joined.keys() == {*LOUD, "late"}

    live(life)


class Looked(list[str]):
    """Names that are counted each time they are looked at."""

    count = 0

    def __iter__(self) -> Any:
        for name in list.__iter__(self):
            Looked.count += 1
            yield name


@pytest.mark.slow
def test_a_later_end_is_not_examined_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a change of settings is written, each turn examines only as many as it has time for, however many leave."""
    monkeypatch.setattr(sqlite_members, "CHANNELS_AT_ONCE", at_once := 200)

    async def life() -> None:
        engine = sqlite_engine(tmp_path / "a.db", Setup())
        await engine.start(Recorder())
        names = [f"c{number}" for number in range(100)]
        crowd = [Member(str(number), f"user {number}", V07) for number in range(20)]
        for member in crowd:
            await engine.connect(member, EMPTY)
            await engine.join(member, {name: {} for name in names})
        await engine.configure({"other": {}})
        writing = asyncio.get_running_loop().create_future()
        engine._unwritten.track([("channel", "other")], writing)
        leaving = asyncio.create_task(
            engine.disconnect_all([Leaving(member, Looked(names)) for member in crowd])
        )
        longest = 0
        while not leaving.done():
            before = Looked.count
            await asyncio.sleep(0)
            longest = max(longest, Looked.count - before)
        await leaving
        assert members_of(engine) == 0
        assert longest <= 2 * at_once < len(crowd) * len(names)
        writing.set_result(True)
        await engine.close()

    asyncio.run(life())


def members_of(engine: SqliteEngine) -> int:
    return sum(len(channel.users) for channel in engine.registry.channels.values())


def test_cut_logs_are_freed_in_many_turns(live: Callable[[Life], None]) -> None:
    """Settings that drop thousands of events let other tasks run while these are freed."""

    async def life(engine: InProcess, recorder: Recorder) -> None:
        await engine.configure({"a": {"log_events": 2000}})
        await engine.publish([message(f"m{number}") for number in range(2000)])
        budget = engine.registry.budget
        one = budget.used_bytes // 2000
        task, used = asyncio.create_task(engine.configure({"a": {"log_events": 1}})), [budget.used_bytes]
        while not task.done():
            await asyncio.sleep(0)
            used.append(budget.used_bytes)
        assert max(before - after for before, after in pairwise(used)) == EXPIRY_BATCH * one
        assert used[-1] < 2 * one

    live(life)
