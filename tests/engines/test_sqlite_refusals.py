"""Files that the SQLite engine refuses, each with a sentence that says what to do."""

import asyncio
import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
from tests.engines.conformance import EMPTY, MovedClock, Recorder, Setup, message
from tests.engines.sqlite_runs import ANN, Runs, sqlite_engine

from channelstream.core.registry import Registry
from channelstream.core.registry_limits import Lifetimes
from channelstream.engines.sqlite_file import APPLICATION_ID, Stored
from channelstream.engines.sqlite_restore import Restore
from channelstream.engines.sqlite_rows import event_columns
from channelstream.errors import ConfigError, Unavailable


def test_a_new_file_is_for_its_own_user_only(runs: Runs) -> None:
    """With those beside it, whatever the umask: they have messages, and the conn_id of each connection."""

    async def modes() -> dict[str, int]:
        engine, _ = await runs.open()
        found = {each.name: each.stat().st_mode & 0o777 for each in runs.path.parent.iterdir()}
        await engine.close()
        return found

    before = os.umask(0)
    try:
        found = asyncio.run(modes())
    finally:
        os.umask(before)
    assert found == {f"state.db{suffix}": 0o600 for suffix in ("", "-lock", "-wal", "-shm")}


def _other_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE t (x)")


def _newer_format(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        (
            lambda path: path.write_text("no database" * 200),
            "put a backup in its place, or name another file",
        ),
        (lambda path: path.mkdir(), "it is a directory: name a file"),
        (_other_program, "is a database of another program"),
        (_newer_format, "has format 99, and this version of channelstream reads format 1 only"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(
    runs: Runs, prepare: Callable[[Path], object], sentence: str
) -> None:
    """With a sentence that names it."""
    prepare(runs.path)
    with pytest.raises(ConfigError, match=re.escape(sentence)) as caught:
        asyncio.run(runs.open())
    assert str(runs.path) in str(caught.value)


UNREADABLE = {
    "events kind": ("events", "kind = 'poll'", "an event of kind 'poll'"),
    "events body": ("events", "body = '{}'", "an event of kind 'message'"),
    "events text": ("events", "body = 'x'", "an event of kind 'message'"),
    "events number": ("events", "body = 5", "an event of kind 'message'"),
    "events payload": ("events", "payload = 5", "an event of kind 'message'"),
    "events time": ("events", "at = 'then'", "a last offset or time"),
    "history kind": ("history", "kind = 'poll'", "an event of kind 'poll'"),
    "history body": ("history", "body = '{}'", "an event of kind 'message'"),
    "history time": ("history", "at = 'then'", "an event"),
    "connection presence": ("connections", "presence = 7", "a connection"),
    "connection range": ("connections", "since = 'then'", "a connection"),
    "subscription range": ("subscriptions", "joined = 'then'", "a connection"),
    "settings text": ("channels", "settings = 'x'", "settings of the channel 'a'"),
    "settings type": ("channels", """settings = '{"history_size":"many"}'""", "settings of the channel 'a'"),
    "settings newer": ("channels", """settings = '{"colour":"red"}'""", "settings of the channel 'a'"),
    "settings number": ("channels", "settings = 5", "settings of the channel 'a'"),
    "channel floor": ("channels", "log_floor = 'x'", "settings of the channel 'a'"),
    "channel time": ("channels", "last_active = 'then'", "settings of the channel 'a'"),
    "user floor": ("users", "log_floor = 'x'", "a state of the user 'ann'"),
    "state list": ("users", "state = '[]'", "a state of the user 'ann'"),
    "state value": ("users", """state = '{"mood":{}}'""", "a state of the user 'ann'"),
    "public keys": ("users", "public_keys = '{}'", "a state of the user 'ann'"),
    "user time": ("users", "last_active = 'then'", "a state of the user 'ann'"),
    "offset": ("meta", "value = 'x' WHERE key = 'seq'", "a last offset or time"),
}
"""What makes a file unreadable: a table, an assignment, and what the refusal names."""


async def _write_a_file(runs: Runs) -> None:
    engine, _ = await runs.open()
    await engine.connect(ANN, EMPTY)
    await engine.join(ANN, {"a": {"store_history": True, "history_size": 1}})
    await engine.publish([message("m")])
    await engine.close()


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_file_with_an_unreadable_row_is_refused(runs: Runs, case: str) -> None:
    """A newer version may have written it: the sentence names the file, the row and what to do."""
    table, change, what = UNREADABLE[case]

    async def life() -> None:
        await _write_a_file(runs)
        with closing(sqlite3.connect(runs.path)) as database:
            assert database.execute(f"UPDATE {table} SET {change}").rowcount
            database.commit()
        await runs.open()

    sentence = (
        f"{str(runs.path)!r} has {what} that this version of channelstream cannot read: use the version"
    )
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        asyncio.run(life())


def fail(*_: object) -> NoReturn:
    raise ValueError("a bug")


class BrokenRegistry(Registry):
    """A registry with a bug."""

    open_channel = open_user = fail


ROWS = {
    "channel": Stored({}, channels=[("a", "1", b"{}", 0, 0, None)]),
    "user": Stored({}, users=[("ann", "1", b"{}", b"[]", 0, None)]),
    "event": Stored({}, events=[(1, 0.0, "a", None, *event_columns(message("m")))]),
    "connection": Stored({}, connections=[("c", "ann", "0.7", 0, 1, 1)]),
}


@pytest.mark.replaces_compiled
@pytest.mark.parametrize("case", ROWS)
def test_a_bug_is_not_blamed_on_the_file(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """Only what reading a row raises is about the file."""
    stored = replace(ROWS[case], meta={"epoch": "e"})
    registry = BrokenRegistry(Setup().limits, lambda: "id")
    monkeypatch.setattr(registry.logs, "of", fail)
    with pytest.raises(ValueError, match="a bug"):
        Restore(stored, registry, MovedClock(), Lifetimes())


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM meta WHERE key = 'epoch'",
        "DELETE FROM meta WHERE key = 'run'",
        "UPDATE meta SET value = '' WHERE key = 'epoch'",
        "UPDATE meta SET value = 5 WHERE key = 'epoch'",
        "UPDATE meta SET value = 5 WHERE key = 'run'",
    ],
)
def test_a_file_without_the_name_of_its_log_begins_a_new_one(runs: Runs, change: str) -> None:
    """Its events are kept, and no older position is valid."""

    async def life() -> None:
        await _write_a_file(runs)
        with closing(sqlite3.connect(runs.path)) as database:
            (before,) = database.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
            assert database.execute(change).rowcount
            database.commit()
        engine, _ = await runs.open()
        [epoch] = engine.position.epochs
        assert epoch not in (before, "", "5")
        first, *_ = (await engine.replay("ann", {"a": 0}, 9)).entries
        assert first.event == message("m")
        await engine.close()

    asyncio.run(life())


@pytest.mark.parametrize("text", [b"", b"another", b"\xff\xfe"])
def test_a_lock_file_with_another_text_begins_a_new_log(runs: Runs, text: bytes) -> None:
    """Whatever wrote it: the file is not the one that a server last used here."""

    async def life() -> None:
        await _write_a_file(runs)
        engine, _ = await runs.open()
        before = engine.position.epochs
        await engine.close()
        Path(f"{runs.path}-lock").write_bytes(text)
        engine, _ = await runs.open()
        assert engine.position.epochs != before
        await engine.close()

    asyncio.run(life())


def test_a_refused_file_can_be_used_by_another_server(runs: Runs) -> None:
    """The process that was refused keeps no lock on it."""

    async def life() -> None:
        await _write_a_file(runs)
        readable = "settings = '{}' WHERE name = 'a'"
        for change in ("settings = 'x'", readable):
            with closing(sqlite3.connect(runs.path)) as database:
                database.execute(f"UPDATE channels SET {change}")
                database.commit()
            if change != readable:
                with pytest.raises(ConfigError, match="cannot read"):
                    await runs.open()
        engine, _ = await runs.open()
        await engine.close()

    asyncio.run(life())


def test_a_file_that_takes_no_write_is_refused_and_released(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leave of a member of the last run cannot be written."""

    async def life() -> None:
        await _write_a_file(runs)
        with closing(sqlite3.connect(runs.path)) as database:
            database.execute("INSERT INTO members VALUES ('a', 'bob', 1)")
            database.execute(
                "CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'full'); END"
            )
            database.commit()
        tasks = asyncio.all_tasks()
        with pytest.raises(ConfigError, match="cannot be written to"):
            await runs.open()
        assert asyncio.all_tasks() == tasks
        with closing(sqlite3.connect(runs.path)) as database:
            database.execute("DROP TRIGGER full")
        engine, _ = await runs.open()
        await engine.close()

    asyncio.run(life())


def test_a_missing_directory_is_refused(runs: Runs) -> None:
    """The server does not create it. A file is none."""
    directory = runs.path.parent
    runs.path = directory / "missing" / "state.db"
    with pytest.raises(ConfigError, match="its directory is not there: make it"):
        asyncio.run(runs.open())
    (directory / "missing").touch()
    with pytest.raises(ConfigError, match="a part of its path is no directory: name another file"):
        asyncio.run(runs.open())


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_a_second_server_is_refused_by_any_name(runs: Runs, link: Callable[[Path, Path], None]) -> None:
    """A link to the file is the same file; once the first server has closed it, it can be used by that name."""

    async def life() -> None:
        engine, _ = await runs.open()
        path, runs.path = runs.path, runs.path.with_name("link.db")
        link(runs.path, path)
        with pytest.raises(ConfigError, match="in use by another server"):
            await runs.open()
        await engine.close()
        again, _ = await runs.open()
        await again.close()

    asyncio.run(life())


def test_a_second_server_is_refused(runs: Runs) -> None:
    """One file, one server."""

    async def life() -> None:
        engine, _ = await runs.open()
        with pytest.raises(ConfigError, match="in use by another server"):
            await runs.open()
        await engine.close()

    asyncio.run(life())


def test_nothing_is_written_to_a_file_that_was_moved_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No start would find it again: calls are refused until it is back, and the log says so."""
    path = tmp_path / "a.db"

    async def life() -> None:
        engine = sqlite_engine(path, Setup())
        await engine.start(Recorder())
        path.rename(tmp_path / "moved.db")
        for _ in range(2):
            with pytest.raises(Unavailable):
                await engine.publish([message("m1")])
            path.touch()
        (tmp_path / "moved.db").rename(path)
        assert [each.duplicate for each in await engine.publish([message("m1")])] == [False]
        await engine.close()

    asyncio.run(life())
    assert "it was replaced or removed while the server has it open: put it back" in caplog.text
