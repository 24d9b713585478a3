"""Very many channels that are joined or left: in short turns of the loop, and each wholly or not at all."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.engines.conformance import EMPTY, Recorder, Setup, message
from tests.engines.sqlite_runs import ANN, sqlite_engine
from tests.engines.test_memory import memory_engine
from tests.simulation.loop import turns

from channelstream import slices
from channelstream.core.budget import EXPIRY_BATCH
from channelstream.core.channel import Channel
from channelstream.core.entry import Entry
from channelstream.core.events import Presence
from channelstream.engines import sqlite_members
from channelstream.engines.members import Leaving, Member
from channelstream.engines.memory import MemoryEngine
from channelstream.engines.sqlite import SqliteEngine
from channelstream.errors import Unavailable
from channelstream.wire.channelstream import V07

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


@pytest.mark.parametrize("is_in", [False, True])
def test_a_cancelled_call_has_no_effect(live: Callable[[Life], None], is_in: bool) -> None:
    """A client that received the one receives the other, too."""

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
            await engine.flush()
        presence = dict(announced(recorder))
        assert [name for name, joined in presence.items() if joined] == (list(LOUD) if is_in else [])

    live(life)


def test_a_connection_that_is_cancelled_while_it_joins_is_not_registered(
    live: Callable[[Life], None],
) -> None:
    """Neither in its channels nor with its user."""

    async def life(engine: InProcess, _recorder: Recorder) -> None:
        before = members(engine)
        task = asyncio.create_task(engine.connect(Member("tablet", "ann", V07), EMPTY, LOUD))
        while members(engine) == before:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert members(engine) == before
        while engine.registry.users["ann"].connections > 1:
            await asyncio.sleep(0)

    live(life)


def test_a_connection_whose_end_is_cancelled_has_left(live: Callable[[Life], None]) -> None:
    """No node has it any more, so that no later call could end it."""

    async def life(engine: InProcess, recorder: Recorder) -> None:
        await engine.join(ANN, LOUD)
        task = asyncio.create_task(engine.disconnect(ANN, list(LOUD)))
        await turns(3)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        while members(engine):
            await asyncio.sleep(0)
        await turns(2)
        assert engine.registry.users["ann"].connections == 0

    live(life)


def test_a_change_of_settings_that_is_not_written_yet_is_waited_for(tmp_path: Path) -> None:
    """Also while the first channels are joined, or left: the change may still be undone."""

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


@pytest.mark.parametrize("is_in", [False, True])
def test_a_fault_midway_leaves_nothing_half_done(
    live: Callable[[Life], None], monkeypatch: pytest.MonkeyPatch, is_in: bool
) -> None:
    """Joins and leaves in the same turn as the channel that fails are undone as well."""
    monkeypatch.setattr(slices, "TURN_S", 3600.0)

    async def life(engine: InProcess, recorder: Recorder) -> None:
        if is_in:
            await engine.join(ANN, LOUD)
        before = members(engine)
        with monkeypatch.context() as fault:
            for step in ("join", "leave"):
                fault.setattr(engine.registry, step, _failing_at("c10", getattr(engine.registry, step)))
            with pytest.raises(ZeroDivisionError):
                await (engine.leave(ANN, list(LOUD)) if is_in else engine.join(ANN, LOUD))
        assert members(engine) == before

    live(life)


def _failing_at(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
    def fail(channel: Channel, *others: Any) -> Any:
        if channel.name == name:
            raise ZeroDivisionError
        return step(channel, *others)

    return fail


@pytest.mark.parametrize("turn_s", [-1.0, 3600.0])
def test_a_fault_about_one_leave_does_not_stop_the_others(
    live: Callable[[Life], None], monkeypatch: pytest.MonkeyPatch, turn_s: float
) -> None:
    """The others are unregistered and have left, and so has the one from the channels it could leave."""
    monkeypatch.setattr(slices, "TURN_S", turn_s)

    async def life(engine: InProcess, recorder: Recorder) -> None:
        crowd = [Member(str(number), f"user {number}", V07) for number in range(9)]
        for member in crowd:
            await engine.connect(member, EMPTY)
            await engine.join(member, {"a": LOUD["c0"], "b": LOUD["c0"]})
        leaving = [Leaving(member, ["a", "b"]) for member in crowd]
        leaving[4] = Leaving(crowd[4], ["a", "unknown"])
        await engine.disconnect_all(leaving)
        if isinstance(engine, SqliteEngine):
            await engine.flush()
        channels = engine.registry.channels
        assert (channels["a"].users, list(channels["b"].users)) == ({}, ["user 4"])
        assert parted(recorder) == [*(("a", each.user) for each in crowd)] + [
            ("b", each.user) for each in crowd if each is not crowd[4]
        ]

    live(life)


def parted(recorder: Recorder) -> list[tuple[str | None, str]]:
    singles = (single.event for entry in recorder.entries for single in entry.split())
    return sorted(
        (event.channel, event.user) for event in singles if isinstance(event, Presence) and not event.joined
    )


def test_an_event_that_cannot_be_delivered_takes_no_other_with_it(live: Callable[[Life], None]) -> None:
    """Each channel receives the batched leave, but for the one whose event fails; all are in the logs."""

    async def life(engine: InProcess, recorder: Recorder) -> None:
        await engine.join(ANN, LOUD)
        if isinstance(engine, SqliteEngine):
            await engine.flush()
        deliver, recorder.entries = recorder.deliver, []

        def fail(entry: Entry) -> None:
            if entry.event.channel == "c10":
                raise ZeroDivisionError
            deliver(entry)

        recorder.deliver = fail  # type: ignore[method-assign]
        await engine.disconnect_all([Leaving(ANN, list(LOUD))])
        if isinstance(engine, SqliteEngine):
            await engine.flush()
        assert parted(recorder) == sorted((name, "ann") for name in LOUD if name != "c10")
        found = await engine.replay("ann", dict.fromkeys(LOUD, engine.position.offsets[0] - 1), 99)
        assert found.read_to == engine.position.offsets
        assert sum(len(channel.log.entries) for channel in engine.registry.channels.values()) == 2 * len(LOUD)

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


def _refuse(_writes: object) -> None:
    raise OSError("full")


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
