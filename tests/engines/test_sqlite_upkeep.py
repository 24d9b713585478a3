"""Trims and deliveries of the SQLite engine, in short turns of the loop."""

import asyncio
from itertools import chain, pairwise

import pytest
from tests.engines.conformance import message
from tests.engines.conformance.lab import edit
from tests.engines.sqlite_runs import Runs
from tests.engines.test_sqlite_compaction import reopened
from tests.engines.test_sqlite_connections import killed, refuse
from tests.simulation.loop import turns

from channelstream import slices
from channelstream.engines import local_log, sqlite, sqlite_upkeep
from channelstream.engines.sqlite import SqliteEngine
from channelstream.engines.sqlite_file import Writes
from channelstream.engines.sqlite_rows import DROP_CHANNELS, PUT_CHANNELS, PUT_HISTORY
from channelstream.engines.sqlite_upkeep import Upkeep

CHANNELS = [f"c{number}" for number in range(7)]
SHORT_LOG = {"store_history": True, "history_size": 5, "log_events": 2}


async def shown(engine: SqliteEngine) -> dict[str, tuple[list[str], list[str], int]]:
    """Return the history, the log and its floor of each channel."""
    return {
        each.name: (
            [entry.event.uuid for entry in each.history.entries],
            [entry.event.uuid for entry in each.log.entries],
            each.log.floor,
        )
        for each in await engine.channels(None)
    }


async def trimmed(engine: SqliteEngine) -> None:
    """Wait until the round that has begun is over."""
    while engine._upkeep.is_due:
        await engine.flush()
        await asyncio.sleep(0)


def spy(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return a list that the numbers of channels and of messages are added to that each batch trims."""
    seen: list[tuple[int, int]] = []
    writes = Upkeep.writes

    def note(upkeep: Upkeep, recorded: int) -> object:
        found = writes(upkeep, recorded)
        rows = {id(bulk): len(some) for bulk, some in found}
        seen.append((rows[id(PUT_CHANNELS)], rows[id(PUT_HISTORY)]))
        return found

    monkeypatch.setattr(Upkeep, "writes", note)
    return seen


def spy_deletions(engine: SqliteEngine) -> list[list[str]]:
    """Return a list that the names of channels are added to that each transaction deletes."""
    seen: list[list[str]] = []
    write = engine._file.write

    def note(writes: Writes, *, erases: bool) -> None:
        seen.append([name for bulk, rows in writes if bulk is DROP_CHANNELS[0] for (name,) in rows])
        write(writes, erases=erases)

    engine._file.write = note  # type: ignore[method-assign]
    return seen


def test_a_file_is_trimmed_part_by_part(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is due, a batch writes few rows of it; when all are written a killed process loses nothing."""
    monkeypatch.setattr(sqlite_upkeep, "ROWS_AT_ONCE", 10)

    async def life() -> None:
        engine, _ = await runs.open()
        await engine.configure(dict.fromkeys(CHANNELS, SHORT_LOG))
        await engine.publish([message(f"{name}-{n}", channel=name) for name in CHANNELS for n in range(5)])
        seen = spy(monkeypatch)
        await engine.collect()
        await trimmed(engine)
        assert [sum(each) for each in zip(*seen, strict=True)] == [7, 35]
        assert len(seen) == 5
        assert max(rows for _, rows in seen) <= 10
        again = await reopened(runs, "killed.db")
        assert await shown(again) == await shown(engine)
        await again.close()
        await engine.close()

    asyncio.run(life())


def test_a_long_history_is_written_part_by_part(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one channel a batch makes few rows, too; its events leave the file when all that it shows is written."""
    monkeypatch.setattr(sqlite_upkeep, "ROWS_AT_ONCE", 10)

    async def life() -> None:
        engine, _ = await runs.open()
        await engine.configure({"a": {"store_history": True, "history_size": 60, "log_events": 2}})
        await engine.publish([message(f"m{number}") for number in range(65)])
        seen = spy(monkeypatch)
        await engine.collect()
        # The log begins later then, behind messages that are not noted in this round.
        await engine.publish([message(f"n{number}") for number in range(3)])
        assert engine._upkeep.is_due
        half = await reopened(runs, "half.db")
        assert await shown(half) == await shown(engine)
        await trimmed(engine)
        assert max(rows for _, rows in seen) == 10
        assert sum(channels for channels, _ in seen) == 1
        again = await reopened(runs, "killed.db")
        assert await shown(again) == await shown(engine)
        assert len((await again.channels(None))[0].history.entries) == 60
        await half.close()
        await again.close()
        await engine.close()

    asyncio.run(life())


def test_nothing_is_kept_of_forgotten_channels(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is due or written of them: clients may name new channels without end."""
    monkeypatch.setattr(sqlite_upkeep, "ROWS_AT_ONCE", 1)

    async def life() -> None:
        engine, _ = await runs.open()
        upkeep = engine._upkeep

        def kept() -> list[bool]:
            return [
                bool(table) for table in (upkeep._changed, upkeep._due, upkeep._trimmed_to, upkeep._trim_to)
            ]

        events = [[message(f"{name}-{n}", channel=name) for name in CHANNELS] for n in range(3)]
        await engine.configure(dict.fromkeys(CHANNELS, SHORT_LOG))
        await engine.publish(events[0])
        await engine.collect()
        await trimmed(engine)
        await engine.publish(events[1])
        await engine.collect()
        await engine.publish(events[2])
        assert all(kept())
        upkeep.forget(CHANNELS)
        assert not any(kept())
        await engine.close()

    asyncio.run(life())


def test_events_published_during_a_trim_stay(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that left the log again meanwhile is kept as part of the history."""
    monkeypatch.setattr(sqlite_upkeep, "ROWS_AT_ONCE", 1)

    async def life() -> None:
        engine, _ = await runs.open()
        await engine.configure(dict.fromkeys(CHANNELS, SHORT_LOG))
        await engine.publish([message(name, channel=name) for name in CHANNELS])
        await engine.collect()
        await engine.publish([message(f"new-{n}", channel=CHANNELS[-1]) for n in range(5)])
        assert engine._upkeep.is_due
        await trimmed(engine)
        again = await reopened(runs, "killed.db")
        assert await shown(again) == await shown(engine)
        await again.close()
        await engine.close()

    asyncio.run(life())


def test_a_part_the_disk_refuses_is_written_later(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so are those behind it, also where the engine is closed in between."""
    monkeypatch.setattr(sqlite_upkeep, "ROWS_AT_ONCE", 1)

    async def life() -> None:
        engine, _ = await runs.open()
        await engine.configure(dict.fromkeys(CHANNELS, SHORT_LOG))
        await engine.publish([message(f"{name}-{n}", channel=name) for name in CHANNELS for n in range(5)])
        with monkeypatch.context() as broken:
            broken.setattr(engine._file, "_transact", _refuse)
            await engine.collect()
            batch = engine._commits.batch()
            assert not await asyncio.shield(batch.done)
        before = await shown(engine)
        await engine.close()
        assert not engine._upkeep.is_due
        again, _ = await runs.open()
        assert await shown(again) == before
        await again.close()

    asyncio.run(life())


def _refuse(_writes: object) -> None:
    raise OSError("full")


def test_a_batch_is_delivered_in_short_turns(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each turn the log grows by the events delivered in it, so that a read in between misses nothing."""
    monkeypatch.setattr(slices, "TURN_S", -1.0)

    async def life() -> None:
        engine, recorder = await runs.open()
        await engine.configure({"a": {}})
        publishing = asyncio.create_task(engine.publish([message(f"m{number}") for number in range(20)]))
        looks = []
        while not publishing.done():
            await turns(1)
            (number,) = engine.position.offsets
            read = await engine.replay("ann", {"a": 0}, 100)
            assert len(recorder.entries) == len(read.entries) == number
            looks.append(number)
        assert max(after - before for before, after in pairwise(looks)) == 1
        assert looks[-1] == 20
        await engine.close()

    asyncio.run(life())


def test_idle_users_and_channels_are_forgotten_in_short_turns(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A channel recreated between two turns is another one, and stays in the file."""
    monkeypatch.setattr(slices, "TURN_S", -1.0)
    monkeypatch.setattr(local_log, "FORGOTTEN_AT_ONCE", 2)
    runs.setup.channels_s = 100.0

    async def life() -> None:
        engine, _ = await runs.open()
        await engine.configure(dict.fromkeys(CHANNELS, SHORT_LOG))
        runs.setup.clock.passed_s += 1000.0
        collecting = asyncio.create_task(engine.collect())
        counts = []
        while not collecting.done():
            await turns(1)
            counts.append(len(engine.registry.channels))
            if counts[-1] == 3:
                await engine.configure({CHANNELS[0]: {"log_events": 9}})
        assert max(before - after for before, after in pairwise(counts)) == 2
        await engine.flush()
        again = await reopened(runs, "killed.db")
        assert [each.name for each in await again.channels(None)] == CHANNELS[:1]
        await again.close()
        await engine.close()

    asyncio.run(life())


def test_one_write_deletes_a_part_of_what_is_forgotten(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publish would have to wait until all of it is deleted."""
    monkeypatch.setattr(local_log, "FORGOTTEN_AT_ONCE", 1)
    monkeypatch.setattr(sqlite, "FORGOTTEN_IN_A_BATCH", 2)
    runs.setup.channels_s = 100.0

    async def life() -> None:
        engine, _ = await runs.open()
        await engine.configure(dict.fromkeys(CHANNELS, SHORT_LOG))
        await engine.flush()
        runs.setup.clock.passed_s += 1000.0
        deleted = spy_deletions(engine)
        await engine.collect()
        await engine.flush()
        assert [len(names) for names in deleted if names] == [2, 2, 2, 1]
        assert sorted(chain.from_iterable(deleted)) == CHANNELS
        await engine.close()

    asyncio.run(life())


def test_what_is_to_be_forgotten_waits_for_a_file_that_takes_writes(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of it is forgotten each time; else what cannot be deleted would be written all at once later."""
    monkeypatch.setattr(local_log, "FORGOTTEN_AT_ONCE", 1)
    monkeypatch.setattr(sqlite, "FORGOTTEN_IN_A_BATCH", 2)
    runs.setup.channels_s = 100.0

    async def life() -> None:
        engine, _ = await runs.open()
        await engine.configure(dict.fromkeys(CHANNELS, SHORT_LOG))
        runs.setup.clock.passed_s += 1000.0
        write, engine._file.write = engine._file.write, refuse  # type: ignore[method-assign]
        await engine.collect()
        assert len(engine.registry.channels) == 5
        engine._file.write = write  # type: ignore[method-assign]
        await engine.collect()
        await engine.flush()
        assert await engine.channels(None) == []
        again = await reopened(runs, "killed.db")
        assert await again.channels(None) == []
        await again.close()
        await engine.close()

    asyncio.run(life())


@pytest.mark.parametrize("is_edited", [False, True])
def test_a_history_survives_two_kills(runs: Runs, is_edited: bool) -> None:
    """A message that the log drops after the first one: its event leaves the file when the history has a row of it."""

    async def life() -> None:
        engine, _ = await runs.open()
        await engine.configure({"a": SHORT_LOG})
        await engine.publish([message("m1"), *([edit("m1")] if is_edited else [])])
        await killed(engine)
        engine, _ = await runs.open()
        await engine.publish([message("m2"), message("m3")])
        await engine.collect()
        await engine.flush()
        await trimmed(engine)
        await killed(engine)
        engine, _ = await runs.open()
        [channel] = await engine.channels(["a"])
        assert [entry.event.uuid for entry in channel.history.entries] == ["m1", "m2", "m3"]
        assert getattr(channel.history.entries[0].event, "payload", None) == (
            b'"new"' if is_edited else b'"hi"'
        )
        await engine.close()

    asyncio.run(life())
