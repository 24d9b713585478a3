"""Very many channels that are joined or left where a call is cancelled, or fails: each wholly or not at all."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.engines.conformance import EMPTY, Recorder, Setup
from tests.engines.many_channels import LOUD, InProcess, Life, announced, members, parted
from tests.engines.sqlite_runs import ANN, sqlite_engine
from tests.simulation.loop import turns

from channelstream import slices
from channelstream.core.channel import Channel
from channelstream.core.entry import Entry
from channelstream.engines.members import Leaving, Member
from channelstream.engines.sqlite import SqliteEngine
from channelstream.errors import Unavailable
from channelstream.wire.channelstream import V07


@pytest.fixture(autouse=True)
def _short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "TURN_S", -1.0)


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


@pytest.mark.replaces_compiled
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


def _refuse(_writes: object) -> None:
    raise OSError("full")
