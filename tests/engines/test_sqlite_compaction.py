"""Remains of edited and deleted messages in the file of the SQLite engine."""

import asyncio
import re
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from operator import attrgetter

import pytest
from msgspec.structs import replace
from tests.engines.conformance import Recorder, Setup, delete, edit, message, private, texts, uuids
from tests.engines.sqlite_runs import ANN, Runs, sqlite_engine
from tests.waiting import PATIENCE_S

from channelstream.core import compaction, registry_logs
from channelstream.core.compaction import MAX_EXCLUDED
from channelstream.core.events import Event, Message
from channelstream.core.log import PRIVATE
from channelstream.core.registry_limits import RegistryLimits
from channelstream.core.user import UserUpdate
from channelstream.engines import sqlite_compaction, sqlite_file
from channelstream.engines.members import Member
from channelstream.engines.sqlite import SqliteEngine
from channelstream.engines.sqlite_erasing import ERASE_S, REBUILD_S
from channelstream.errors import Unavailable
from channelstream.wire.channelstream import V07

BOTH = frozenset({"ann", "bob"})
Life = Callable[[SqliteEngine, Recorder], Awaitable[None]]


def live(runs: Runs, life: Life) -> None:
    """Open the file with ann in the channel `a`, which shows its history, and live."""

    async def whole() -> None:
        engine, recorder = await runs.open()
        await engine.connect(ANN, UserUpdate({}, {}))
        await engine.join(ANN, {"a": {"store_history": True, "history_size": 1000}})
        await life(engine, recorder)
        await engine.close()

    asyncio.run(whole())


async def reopened(runs: Runs, name: str) -> SqliteEngine:
    """Open a copy of the file as it is now, as a killed process leaves it."""
    copy = runs.path.with_name(name)
    for suffix in ("", "-wal"):
        shutil.copy(f"{runs.path}{suffix}", f"{copy}{suffix}")
    engine = sqlite_engine(copy, runs.setup, 5_000_000)
    await engine.start(Recorder())
    return engine


def said(number: int, size: int) -> bytes:
    """A text that no other message has, of about this size."""
    return b'"secret %05d %b"' % (number, b"." * size)


def texts_in(runs: Runs) -> set[int]:
    """The numbers of the texts whose bytes are anywhere in the file or its write-ahead log."""
    data = b"".join(path.read_bytes() for path in runs.path.parent.glob("state.db*"))
    return set(map(int, re.findall(rb"secret (\d{5})", data)))


def test_no_byte_of_a_superseded_entry_stays_in_the_files(runs: Runs) -> None:
    """Neither in free pages nor in the write-ahead log, once that was emptied: logs, history, private messages."""
    sizes = (5, 300, 3000, 20_000)
    runs.setup = Setup(limits=RegistryLimits(log_age_s=10 * REBUILD_S))

    def texted(number: int) -> Message:
        users = None if number % 5 else BOTH
        return Message(
            uuid=f"m{number * 7919 % 10_007}", channel="a" if users is None else None, only=users,
            user="ann", payload=said(number, sizes[number % 4]), timestamp="t",
        )  # fmt: skip

    async def life(engine: SqliteEngine, _: Recorder) -> None:
        messages = [texted(number) for number in range(400)]
        for begin in range(0, 400, 40):
            await engine.publish(messages[begin : begin + 40])
        await engine.collect()
        await engine.flush()
        assert len(texts_in(runs)) == 400
        gone = [each for number, each in enumerate(messages) if number % 3]
        changes: list[Event] = [
            (edit if number % 2 else delete)(each.uuid, channel=each.channel, only=each.only)
            for number, each in enumerate(gone)
        ]
        await engine.publish(changes)
        with closing(sqlite3.connect(runs.path)) as other:
            rows = other.execute(
                "SELECT payload FROM events UNION ALL SELECT payload FROM history"
            ).fetchall()
        assert {row[0][8:13] for row in rows if b"secret" in (row[0] or b"")} == {
            b"%05d" % number for number in range(0, 400, 3)
        }
        await engine.collect()
        await engine.flush()
        left = texts_in(runs) - set(range(0, 400, 3))
        assert len(left) < len(gone) / 10  # Of rows that were moved between pages.
        runs.setup.clock.passed_s += REBUILD_S
        await engine.collect()
        await engine.flush()
        assert texts_in(runs) == set(range(0, 400, 3))
        await engine.publish([delete("m0", channel=None, only=BOTH), delete(messages[3].uuid)])

    live(runs, life)
    assert texts_in(runs) == set(range(6, 400, 3))


def test_a_deleted_text_leaves_the_files_with_its_deletion(runs: Runs) -> None:
    """At once where there are few; where there are many, with the next collection."""

    async def life(engine: SqliteEngine, _: Recorder) -> None:
        for number in range(3):
            runs.setup.clock.passed_s += (0.0, ERASE_S, 0.1)[number]
            text = Message(uuid=f"m{number}", channel="a", user="ann", payload=said(number, 9), timestamp="t")
            await engine.publish([text])
            await engine.publish([delete(text.uuid)])
            assert texts_in(runs) == ({2} if number == 2 else set())
        await engine.collect()
        await engine.flush()
        assert texts_in(runs) == set()

    live(runs, life)


def test_a_process_that_was_killed_leaves_nothing_after_its_next_start(runs: Runs) -> None:
    """Remains of rows that SQLite moved are gone before anything is served."""

    async def life(engine: SqliteEngine, _: Recorder) -> None:
        await engine.publish([message("m1"), delete("m1")])
        erased = "SELECT value FROM meta WHERE key = 'erased'"
        with closing(sqlite3.connect(runs.path)) as other:
            assert other.execute(erased).fetchall() == [(1,)]
        again = await reopened(runs, "killed.db")
        with closing(sqlite3.connect(runs.path.with_name("killed.db"))) as other:
            assert other.execute(erased).fetchall() == [(0,)]
        await again.close()

    live(runs, life)


def test_a_hand_over_does_not_wait_until_the_file_is_rewritten(runs: Runs) -> None:
    """The next process does that with its next collection."""

    async def life(engine: SqliteEngine, _: Recorder) -> None:
        await engine.publish([message("m1"), delete("m1")])
        for part in (engine.copy(), engine.hand_over()):
            async for _record in part:
                pass
        with closing(sqlite3.connect(runs.path)) as other:
            assert other.execute("SELECT value FROM meta WHERE key = 'erased'").fetchall() == [(1,)]
        await engine.proceed()

    live(runs, life)


def test_a_program_that_reads_the_file_only_puts_it_off(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write-ahead log is emptied the next time; meanwhile no request waits."""
    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT_S", 2 * PATIENCE_S)

    async def life(engine: SqliteEngine, _: Recorder) -> None:
        await engine.publish([Message(uuid="m1", channel="a", user="ann", payload=said(1, 9), timestamp="t")])
        with closing(sqlite3.connect(runs.path, isolation_level=None)) as other:
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM events").fetchone()
            async with asyncio.timeout(PATIENCE_S):
                await engine.publish([delete()])
                await engine.collect()
                await engine.flush()
            assert texts_in(runs) == {1}
        await engine.collect()
        await engine.flush()
        assert texts_in(runs) == set()

    live(runs, life)


def test_a_killed_process_leaves_the_current_forms(runs: Runs) -> None:
    """Whether the message was written before or with what supersedes it; the history as well."""

    async def life(engine: SqliteEngine, _: Recorder) -> None:
        await engine.publish([message("m1"), message("m2"), private("p1", "ann", "bob"), message("m3")])
        await engine.collect()
        await engine.publish([edit("m1"), delete("m2"), delete("p1", channel=None, only=frozenset({"ann"}))])
        await engine.publish(
            [message("m4"), message("m5"), edit("m4"), delete("m5"), edit("m4", b'"newest"')]
        )
        starts = {"a": 0, PRIVATE: 0}
        before = await engine.replay("ann", starts, 100)
        again = await reopened(runs, "killed.db")
        after = await again.replay("ann", starts, 100)
        assert [(each.offset, each.event) for each in after.entries] == [
            (e.offset, e.event) for e in before.entries
        ]
        assert after.lost == frozenset()
        assert sorted(map(str, texts(after))) == sorted(
            map(str, [b'"new"', b'"hi"', b'"newest"', b'"new"', "m2", "p1", "m5", b'"newest"'])
        )
        (channel,) = await again.channels(["a"])
        shown = [getattr(entry.event, "payload", b"") for entry in channel.history.entries]
        assert shown == [b'"new"', b'"hi"', b'"newest"']
        await again.close()

    live(runs, life)


def test_a_file_with_superseded_entries_replays_their_current_forms(runs: Runs) -> None:
    """An older version wrote it."""
    live(runs, lambda engine, _: _published(engine, message("m1"), message("m2"), message("m3")))
    with closing(sqlite3.connect(runs.path)) as older, older:
        (head,) = older.execute("SELECT max(seq) FROM events").fetchone()
        body = '{"uuid":"%s","channel":"a","only":null,"exclude":null%s}'
        rows = [
            ("delete", body % ("m1", ""), None),
            ("edit", body % ("m2", ',"edited":"e","payload":""'), b'"new"'),
        ]
        for offset, (kind, text, payload) in enumerate(rows, start=head + 1):
            row = (offset, "a", None, kind, text.encode(), payload)
            older.execute("INSERT INTO events SELECT ?, max(at), ?, ?, ?, ?, ? FROM events", row)
        older.execute("UPDATE meta SET value = ? WHERE key = 'seq'", (head + 2,))

    async def life() -> None:
        engine, _ = await runs.open()
        assert texts(await engine.replay("ann", {"a": 0}, 100)) == [b'"new"', b'"hi"', "m1", b'"new"']
        await engine.close()

    asyncio.run(life())


async def _published(engine: SqliteEngine, *events: Event) -> None:
    await engine.publish(events)


@pytest.mark.slow
def test_a_deletion_the_disk_refuses_has_deleted_nothing(runs: Runs) -> None:
    """The message is there as before, and can be deleted later."""

    async def life(engine: SqliteEngine, _: Recorder) -> None:
        await engine.publish([message("m1"), message("m2")])
        with closing(sqlite3.connect(runs.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable):
                await engine.publish([delete("m1"), edit("m2")])
            other.execute("ROLLBACK")
        assert texts(await engine.replay("ann", {"a": 0}, 100)) == [b'"hi"', b'"hi"']
        assert [each.found for each in await engine.publish([delete("m1"), edit("m2")])] == [True, True]

    live(runs, life)


def test_a_uuid_is_accepted_once_while_a_deletion_of_it_is_written(runs: Runs) -> None:
    """A pending write counts until it is committed, whatever else is done with its uuid before."""

    async def life(engine: SqliteEngine, recorder: Recorder) -> None:
        for change in (delete("m1", only=frozenset({"bob"})), edit("m2", only=frozenset({"bob"}))):
            new = message(change.uuid)
            writing = asyncio.create_task(engine.publish([change]))
            while engine._commits._writing is None:
                await asyncio.sleep(0)
            first = asyncio.create_task(engine.publish([new]))
            await writing
            again = asyncio.create_task(engine.publish([new]))
            assert [(await each)[0].duplicate for each in (first, again)] == [False, True]
        messages = [entry.event for entry in recorder.entries if isinstance(entry.event, Message)]
        assert [(event.uuid, event.exclude, event.edited) for event in messages] == [
            ("m1", {"bob"}, None),
            ("m2", {"bob"}, None),
            ("m2", None, "e"),
        ]

    live(runs, life)


def test_a_batch_that_deletes_what_it_brings_counts_it_found(runs: Runs) -> None:
    """Though nothing of it is committed yet."""

    async def life(engine: SqliteEngine, recorder: Recorder) -> None:
        accepted = await engine.publish([message("m1"), edit(), delete(), delete(), message("m1")])
        assert [(each.duplicate, each.found) for each in accepted] == [
            (False, False), (False, True), (False, True), (False, False), (True, False),
        ]  # fmt: skip
        assert len(recorder.entries) == 4
        assert uuids(await engine.replay("ann", {"a": 0}, 100)) == ["m1"]

    live(runs, life)


def test_a_dropped_entry_leaves_the_file_with_its_edit(runs: Runs) -> None:
    """A history that alone still has the message shows the new text, and the file has no other."""
    runs.setup = Setup(limits=RegistryLimits(log_events=2))

    async def life(engine: SqliteEngine, _: Recorder) -> None:
        old = Message(uuid="old", channel="a", user="ann", payload=said(1, 5), timestamp="t")
        await engine.publish([old, message("m2"), message("m3")])
        await engine.collect()
        assert (await engine.publish([edit("old")]))[0].found
        await engine.collect()
        await engine.flush()
        assert texts_in(runs) == set()
        again = await reopened(runs, "again.db")
        (channel,) = await again.channels(["a"])
        assert [getattr(entry.event, "payload", b"") for entry in channel.history.entries] == [
            b'"new"',
            b'"hi"',
            b'"hi"',
        ]
        await again.close()

    live(runs, life)


def test_a_message_edited_for_many_users_is_lost_after_a_restart(runs: Runs) -> None:
    """Whether it was written before, or is in the batch that deletes it."""
    many = frozenset(f"u{number}" for number in range(MAX_EXCLUDED + 1))

    async def life(engine: SqliteEngine, _: Recorder) -> None:
        await engine.join(ANN, {"b": {}})
        await engine.publish([message("m0"), message("m1"), message("m2")])
        await engine.publish([delete("m1", only=many)])
        await engine.publish([message("m1", channel="b"), delete("m1", channel="b", only=many)])
        again = await reopened(runs, "killed.db")
        for each in (engine, again):
            floors = {channel.name: channel.log.floor for channel in await each.channels(None)}
            assert (
                await each.replay("zoe", {name: floor - 1 for name, floor in floors.items()}, 9)
            ).lost == {"a", "b"}
            replay = await each.replay("zoe", floors, 9)
            assert (uuids(replay), replay.lost) == (["m2", "m1", "m1"], frozenset())
        await again.close()

    live(runs, life)


def test_what_is_older_than_a_loss_is_known_after_a_restart(runs: Runs) -> None:
    """A message that is published again is a duplicate, though a client from before it is sent the loss."""
    many = frozenset(f"u{number}" for number in range(MAX_EXCLUDED + 1))

    async def life(engine: SqliteEngine, _: Recorder) -> None:
        await engine.publish([message("m0"), message("m1")])
        await engine.publish([delete("m1", only=many)])
        await engine.collect()
        await engine.flush()
        again = await reopened(runs, "killed.db")
        for each in (engine, again):
            (channel,) = await each.channels(["a"])
            assert [entry.event.uuid for entry in channel.log.entries] == ["m0", "m1"]
            assert (await each.replay("zoe", {"a": channel.log.floor - 1}, 9)).lost == {"a"}
            assert [each.duplicate for each in await each.publish([message("m0")])] == [True]
        await again.close()

    live(runs, life)


def test_a_channel_has_nothing_from_before_it_was_created_after_a_restart(runs: Runs) -> None:
    """Such events were kept nowhere; those that its history alone still has stay."""

    async def life(engine: SqliteEngine, _: Recorder) -> None:
        await engine.publish([message("m1", "b"), delete("m2", "b"), message("m3"), message("m4")])
        await engine.configure({"b": {}, "a": {"log_events": 1}})
        await engine.publish([message("m5", "b")])
        again = await reopened(runs, "killed.db")
        for each in (engine, again):
            other, channel = sorted(await each.channels(None), key=attrgetter("name"), reverse=True)
            assert [entry.event.uuid for entry in channel.history.entries] == ["m3", "m4"]
            assert [entry.event.uuid for entry in other.log.entries] == ["m5"]
            new = [message("m1", "b"), message("m2", "b"), edit("m2", channel="b")]
            assert [each.duplicate for each in await each.publish(new)] == [False] * 3
        await again.close()

    live(runs, life)


def test_a_history_keeps_what_was_deleted_for_some_after_a_restart(runs: Runs) -> None:
    """Also if too many are named for the log to keep the message, whether it was written before or with the deletion."""
    many = frozenset(f"u{number}" for number in range(MAX_EXCLUDED + 1))

    async def life(engine: SqliteEngine, _: Recorder) -> None:
        await engine.publish([message("m0"), message("m1")])
        await engine.publish([delete("m0", only=BOTH), delete("m1", only=many)])
        await engine.publish(
            [message("m2"), delete("m2", only=many), edit("m2"), message("m3", no_history=True)]
        )
        await engine.publish([delete("m3", only=many)])
        again = await reopened(runs, "killed.db")
        for each in (engine, again):
            (channel,) = await each.channels(["a"])
            shown = [(entry.event.uuid, entry.event.exclude) for entry in channel.history.entries]
            assert shown == [("m0", None), ("m1", None), ("m2", None)]
            assert channel.history.entries[-1].event.payload == b'"new"'
        await again.close()

    live(runs, life)


def test_an_edit_that_was_divided_is_not_applied_again_by_a_restart(runs: Runs) -> None:
    """The log of one user may have lost the message, and has a newer edit, when that of another has both."""
    runs.setup = Setup(limits=RegistryLimits(user_log_events=2))

    async def life(engine: SqliteEngine, _: Recorder) -> None:
        await engine.connect(Member("2", "bob", V07), UserUpdate({}, {}))
        await engine.publish([private("p1", "ann", "bob"), edit("p1", channel=None, only=BOTH)])
        await engine.publish([private("p2", "bob")])
        await engine.publish([edit("p1", b'"newer"', channel=None, only=frozenset({"bob"}))])
        again = await reopened(runs, "killed.db")
        for each in (engine, again):
            assert texts(await each.replay("ann", {PRIVATE: 0}, 9)) == [b'"new"', b'"new"']
        await again.close()

    live(runs, life)


def test_what_an_edit_for_some_has_changed_is_lost_after_a_restart(runs: Runs) -> None:
    """Where a newer one cannot say it: in a channel and in the log of a user, also if one batch has both edits."""

    async def life(engine: SqliteEngine, recorder: Recorder) -> None:
        await engine.connect(Member("2", "bob", V07), UserUpdate({}, {}))
        await engine.join(ANN, {"b": {}})
        await engine.publish([message("m1"), message("m1", channel="b"), private("p1", "ann", "bob")])
        start = recorder.entries[-1].offset
        some, more = edit(only=frozenset({"ann"})), edit(payload=None, user="eve", only=BOTH)
        await engine.publish([some, replace(some, channel=None, uuid="p1")])
        between = recorder.entries[-1].offset
        await engine.publish([more, replace(more, channel=None, uuid="p1")])
        await engine.publish([replace(each, channel="b") for each in (some, more)])
        again = await reopened(runs, "killed.db")
        for each in (engine, again):
            replay = await each.replay("ann", dict.fromkeys(("a", "b", PRIVATE), start), 9)
            assert replay.lost == {"a", "b", PRIVATE}
            assert (await each.replay("ann", {"a": between, PRIVATE: between}, 9)).lost == frozenset()
            assert (await each.replay("bob", {PRIVATE: start}, 9)).lost == frozenset()
        await again.close()

    live(runs, life)


@pytest.mark.replaces_compiled
def test_edits_for_many_users_in_one_call_leave_each_other_alone(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edit is compared with the message, and not with all edits for other users that wait for the same write."""
    compared, count, retained = [], 50, compaction.retained
    for module in (compaction, registry_logs, sqlite_compaction):
        monkeypatch.setattr(module, "retained", lambda *each: compared.append(each) or retained(*each))

    async def life(engine: SqliteEngine, _: Recorder) -> None:
        users = [frozenset({f"u{number}"}) for number in range(count)]
        await engine.publish([message("m1"), *(edit(only=names) for names in users)])

    live(runs, life)
    assert len(compared) < 5 * count
