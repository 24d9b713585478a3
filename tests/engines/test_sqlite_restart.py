"""What a restart of the SQLite engine keeps, for how long, and whose clock counts."""

import asyncio
import sqlite3
from contextlib import closing

import pytest
from tests.engines.conformance import EMPTY, MovedClock, Setup, message, private, uuids
from tests.engines.sqlite_runs import ANN, Runs
from tests.engines.test_sqlite_compaction import reopened

from channelstream import slices
from channelstream.core.events import MessageDeleted, MessageEdited, Presence
from channelstream.core.log import PRIVATE
from channelstream.core.registry_limits import RegistryLimits
from channelstream.core.user import UserUpdate
from channelstream.engines.members import Leaving, Member
from channelstream.wire.channelstream import V07


def test_a_restart_keeps_what_was_accepted(runs: Runs) -> None:
    """Logs, private messages, history with its edits, settings, state, ids and position are as before."""

    async def life() -> None:
        engine, _ = await runs.open()
        await engine.connect(ANN, UserUpdate({"mood": 1}, {}, ["mood"]))
        await engine.join(ANN, {"a": {"store_history": True, "history_size": 3}})
        await engine.publish([message(f"m{number}") for number in range(5)])
        await engine.publish([private("p1", "ann"), MessageDeleted(uuid="m4", channel="a")])
        await engine.publish([MessageEdited(uuid="m3", channel="a", edited="t", payload=b'"ho"')])
        position = engine.position
        before = await engine.replay("ann", {"a": 0, PRIVATE: 0}, 100)
        (channel,), (user,) = await engine.channels(None), await engine.users(None)
        shown, ids = [entry.event for entry in channel.history.entries], (channel.id, user.id)
        await engine.close()
        again, recorder = await runs.open()
        assert (again.position, recorder.entries) == (position, [])
        after = await again.replay("ann", {"a": 0, PRIVATE: 0}, 100)
        assert [(e.position, e.event) for e in after.entries] == [
            (e.position, e.event) for e in before.entries
        ]
        (channel,), (user,) = await again.channels(None), await again.users(None)
        assert [entry.event for entry in channel.history.entries] == shown
        assert (channel.id, user.id, user.state, user.public_keys) == (*ids, {"mood": 1}, ("mood",))
        assert (channel.users, user.connections) == ({"ann": 1}, 1)
        assert (await again.publish([message("m2")]))[0].duplicate
        await again.close()

    asyncio.run(life())


def test_members_without_a_connection_have_left_after_a_restart(runs: Runs) -> None:
    """A client that resumes received the join, so it receives the leave, once."""

    async def life() -> None:
        engine, _ = await runs.open()
        await engine.connect(ANN, UserUpdate({}, {}))
        await engine.join(ANN, {"a": {"notify_presence": True}})
        await engine.close()
        with closing(sqlite3.connect(runs.path)) as database:
            database.execute("DELETE FROM connections")
            database.commit()
        for expected in ([("ann", False)], []):
            again, recorder = await runs.open()
            announced = [e.event for e in recorder.entries if isinstance(e.event, Presence)]
            assert [(event.user, event.joined) for event in announced] == expected
            await again.close()

    asyncio.run(life())


def test_a_trimmed_entry_is_lost_after_a_restart(runs: Runs) -> None:
    """The floors are kept, and the file has no more than the logs."""
    runs.setup = Setup(limits=RegistryLimits(log_events=2, user_log_events=1))

    async def life() -> None:
        engine, _ = await runs.open()
        await engine.connect(ANN, UserUpdate({}, {}))
        await engine.join(ANN, {"a": {}})
        await engine.publish([message(f"m{number}") for number in range(5)])
        await engine.publish([private(f"p{number}", "ann") for number in range(3)])
        await engine.publish([message("x", channel="nowhere")])
        await engine.close()
        with closing(sqlite3.connect(runs.path)) as database:
            assert database.execute("SELECT count(*) FROM events").fetchone() == (3,)
        again, _ = await runs.open()
        replay = await again.replay("ann", {"a": 2, PRIVATE: 6}, 100)
        assert replay.lost == {"a", PRIVATE}
        assert uuids(await again.replay("ann", {"a": 3, PRIVATE: 7}, 100)) == ["m3", "m4", "p2"]
        await again.close()

    asyncio.run(life())


@pytest.mark.parametrize("moved_s", [-100_000.0, 59.0])
def test_a_clock_that_is_set_back_drops_and_keeps_nothing_too_long(runs: Runs, moved_s: float) -> None:
    """Entries younger than the limit stay, and they age while the server runs."""
    runs.setup = Setup(limits=RegistryLimits(log_age_s=60.0))

    async def life() -> None:
        engine, _ = await runs.open()
        await engine.configure({"a": {}})
        await engine.publish([message("m1")])
        await engine.close()
        runs.setup.clock = MovedClock()
        runs.setup.clock.passed_s = moved_s
        again, _ = await runs.open()
        assert uuids(await again.replay("ann", {"a": 0}, 9)) == ["m1"]
        runs.setup.clock.passed_s += 60.5
        assert (await again.replay("ann", {"a": 0}, 9)).lost == {"a"}
        await again.close()

    asyncio.run(life())


def test_a_batched_leave_survives_a_restart(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """With their offsets; the leave is not announced again."""
    monkeypatch.setattr(slices, "TURN_S", 3600.0)
    members = [Member(name, name, V07) for name in ("ann", "bob", "cid")]

    async def life() -> None:
        engine, _ = await runs.open()
        for member in members:
            await engine.connect(member, EMPTY)
            await engine.join(member, {"a": {"notify_presence": True}})
        await engine.disconnect_all([Leaving(member, ["a"]) for member in members])
        await engine.flush()
        position = engine.position
        await engine.close()
        again, recorder = await runs.open()
        assert (again.position, recorder.entries) == (position, [])
        last = position.offsets[0]
        rest = (await again.replay("dan", {"a": last - 2}, 9)).entries
        assert [(single.offset, *single.event.about) for entry in rest for single in entry.split()] == [
            (last - 1, "bob"),
            (last, "cid"),
        ]
        await again.close()

    asyncio.run(life())


@pytest.mark.parametrize("set_s", [3600.0, -3600.0, 86_400.0, -86_400.0])
def test_idle_time_outlives_a_restart_as_an_age(runs: Runs, set_s: float) -> None:
    """Set while the server runs, the wall clock changes no age that is stored then."""
    runs.setup = Setup(users_s=100_000.0, channels_s=100_000.0)
    clock = runs.setup.clock

    async def life() -> None:
        engine, _ = await runs.open()
        await engine.connect(ANN, EMPTY)
        await engine.join(ANN, {"a": {}})
        await engine.disconnect(ANN, ["a"])
        clock.passed_s += 1000.0
        clock.set_s += set_s
        await engine.collect()
        await engine.close()
        clock.set_s -= set_s
        again, _ = await runs.open()
        [user], [channel] = await again.users(["ann"]), await again.channels(["a"])
        assert user.last_active_s == channel.last_active_s == clock.wall() - 1000.0
        clock.passed_s += 99_000.0
        await again.collect()
        assert [await again.users(None), await again.channels(None)] == [[user], [channel]]
        clock.passed_s += 0.5
        await again.collect()
        assert [await again.users(None), await again.channels(None)] == [[], []]
        await again.close()

    asyncio.run(life())


@pytest.mark.parametrize(("set_s", "counted_s"), [(-86_400.0, 0.0), (-3600.0, 0.0), (3600.0, 3600.0)])
def test_a_clock_set_between_two_runs_never_makes_entries_younger(
    runs: Runs, set_s: float, counted_s: float
) -> None:
    """Set back, no time has passed between the runs; set forward, that time has passed: the two cannot be distinguished."""
    runs.setup = Setup(users_s=10_000.0, channels_s=10_000.0)

    async def life() -> None:
        engine, _ = await runs.open()
        await engine.connect(ANN, EMPTY)
        await engine.disconnect(ANN, [])
        runs.setup.clock.passed_s += 1000.0
        await engine.collect()
        await engine.close()
        runs.setup.clock.set_s += set_s
        again, _ = await runs.open()
        runs.setup.clock.passed_s += 9000.0 - counted_s
        await again.collect()
        assert await again.users(["ann"])
        runs.setup.clock.passed_s += 0.5
        await again.collect()
        assert not await again.users(["ann"])
        await again.close()

    asyncio.run(life())


@pytest.mark.parametrize(("lifetime_s", "kept_s"), [(100_000.0, 600.0), (300.0, 600.0), (0.0, 1e9)])
def test_what_is_restored_is_kept_for_ten_minutes_at_least(
    runs: Runs, lifetime_s: float, kept_s: float
) -> None:
    """However long no server was running, clients have time to come back."""
    runs.setup = Setup(users_s=lifetime_s, channels_s=lifetime_s)

    async def life() -> None:
        engine, _ = await runs.open()
        await engine.connect(ANN, EMPTY, {"a": {}})
        await engine.disconnect(ANN, ["a"])
        await engine.close()
        runs.setup.clock.passed_s += 5 * 366 * 86_400.0
        again, _ = await runs.open()
        [user], [channel] = await again.users(["ann"]), await again.channels(["a"])
        assert user.last_active_s == channel.last_active_s < again._clock.wall() - 5 * 365 * 86_400.0
        runs.setup.clock.passed_s += kept_s
        await again.collect()
        assert [await again.users(None), await again.channels(None)] == [[user], [channel]]
        runs.setup.clock.passed_s += 0.5
        await again.collect()
        assert bool(await again.users(None)) == bool(await again.channels(None)) == (not lifetime_s)
        await again.close()

    asyncio.run(life())


def test_users_and_channels_that_are_restored_have_lifetimes_of_their_own(runs: Runs) -> None:
    """Neither is kept for as long as the other."""
    runs.setup = Setup(users_s=2000.0, channels_s=4000.0)

    async def life() -> None:
        engine, _ = await runs.open()
        await engine.connect(ANN, EMPTY, {"a": {}})
        await engine.disconnect(ANN, ["a"])
        await engine.close()
        runs.setup.clock.passed_s += 3000.0
        again, _ = await runs.open()
        for passed_s, left in ((599.5, (1, 1)), (1.0, (0, 1)), (399.0, (0, 1)), (1.0, (0, 0))):
            runs.setup.clock.passed_s += passed_s
            await again.collect()
            assert (len(await again.users(None)), len(await again.channels(None))) == left
        await again.close()

    asyncio.run(life())


def test_what_is_new_after_a_start_is_kept_for_its_own_time(runs: Runs) -> None:
    """Not for as long as clients have to come back."""
    runs.setup = Setup(users_s=60.0, channels_s=60.0)

    async def life() -> None:
        engine, _ = await runs.open()
        await engine.connect(ANN, EMPTY, {"a": {}})
        await engine.disconnect(ANN, ["a"])
        runs.setup.clock.passed_s += 60.5
        await engine.collect()
        assert [await engine.users(None), await engine.channels(None)] == [[], []]
        await engine.close()

    asyncio.run(life())


def test_a_restored_copy_begins_a_new_epoch(runs: Runs) -> None:
    """Positions given out after the copy was made must not be taken for its own."""

    async def life() -> None:
        engine, _ = await runs.open()
        epoch = engine.position.epochs
        await engine.close()
        copy = runs.path.read_bytes()
        same, _ = await runs.open()
        assert same.position.epochs == epoch
        await same.close()
        runs.path.write_bytes(copy)
        other, _ = await runs.open()
        assert other.position.epochs != epoch
        await other.close()

    asyncio.run(life())


def test_events_of_channels_that_were_unknown_leave_the_file_after_a_restart(runs: Runs) -> None:
    """Nothing else has them: the process that would have deleted them was killed."""

    async def life() -> None:
        engine, _ = await runs.open()
        await engine.configure({"a": {}})
        await engine.publish([message("m1"), message("m2", "unknown")])
        again = await reopened(runs, "killed.db")
        await again.collect()
        await again.close()
        await engine.close()
        with closing(sqlite3.connect(runs.path.with_name("killed.db"))) as file:
            assert file.execute("SELECT channel FROM events").fetchall() == [("a",)]

    asyncio.run(life())
