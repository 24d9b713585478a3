"""Connections in the SQLite engine's file: what every engine that keeps them must do, and tests of this file alone."""

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.engines.conformance.brief_channels import GUEST, SOON_S
from tests.engines.conformance.lab import EMPTY, Lab
from tests.engines.conformance.restarts import *  # noqa: F403
from tests.engines.conformance.restarts import ANN, Crash, about
from tests.engines.sqlite_runs import Runs

from channelstream.engines import group_commit
from channelstream.engines.base import Engine
from channelstream.engines.members import Member
from channelstream.engines.sqlite import SqliteEngine
from channelstream.engines.sqlite_connections import PUT_SUBSCRIPTIONS
from channelstream.engines.sqlite_file import SqliteFile
from channelstream.engines.sqlite_rows import PUT_MEMBERS
from channelstream.errors import Unavailable
from channelstream.wire.channelstream import V07


async def flush(engine: Engine) -> None:
    assert isinstance(engine, SqliteEngine)
    await engine.flush()


async def killed(engine: SqliteEngine) -> None:
    """End as a killed process does: what is committed stays."""
    engine._commits._task.cancel()
    await engine._release()


class Server:
    """One file, and the lab of the server that uses it."""

    def __init__(self, runner: asyncio.Runner, runs: Runs) -> None:
        self._runner = runner
        self._runs = runs
        self._numbers = iter(range(1_000_000, 9_000_000, 1_000_000))
        self.lab = self._open()

    def _open(self) -> Lab:
        self._runs.begun = next(self._numbers)
        return Lab(self._runner, self._runs.engine(), self._runs.setup, flush)

    def crash(self) -> Lab:
        self.end()
        self.lab = self._open()
        return self.lab

    def end(self) -> None:
        engine = self.lab.engine
        assert isinstance(engine, SqliteEngine)
        self._runner.run(killed(engine))


@pytest.fixture
def server(runs: Runs) -> Iterator[Server]:
    with asyncio.Runner() as runner:
        server = Server(runner, runs)
        yield server
        server.end()


@pytest.fixture
def begun(server: Server) -> Lab:
    return server.lab


@pytest.fixture
def crash(server: Server) -> Crash:
    return server.crash


async def register(engine: SqliteEngine, member: Member = ANN, *channels: str) -> None:
    await engine.connect(member, EMPTY)
    await engine.join(member, {name: {"notify_presence": True} for name in channels})


async def restart(runs: Runs) -> tuple[list[str], list[tuple[str, bool]]]:
    """Open the file once; return the ids of its connections, and who was announced."""
    engine, recorder = await runs.open()
    found = [each.member.conn_id for each in await engine.restored_connections()]
    await killed(engine)
    return found, [each for entry in recorder.entries for each in about(entry.event)]


def test_a_server_that_is_stopped_keeps_its_connections(runs: Runs) -> None:
    """As one that is killed: their clients come back to the next one."""

    async def life() -> None:
        engine, _ = await runs.open()
        await register(engine, ANN, "a")
        await engine.close()
        assert await restart(runs) == (["of-ann"], [])

    asyncio.run(life())


def _as_of_an_older_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.executescript(
            "DROP TABLE connections; DROP TABLE subscriptions; DELETE FROM meta WHERE key = 'connections'"
        )


def _used_by_an_older_version(path: Path) -> None:
    """It names its run in the file and beside it, and leaves what it does not know."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE meta SET value = 'later' WHERE key = 'run'")
        database.commit()
    Path(f"{path}-lock").write_text("later")


def _a_backup(path: Path) -> None:
    shutil.move(path, path.with_name("backup.db"))
    Path(f"{path}-lock").write_text("another run")
    shutil.move(path.with_name("backup.db"), path)


@pytest.mark.parametrize("change", [_as_of_an_older_version, _used_by_an_older_version, _a_backup])
def test_connections_of_another_run_have_left(runs: Runs, change: Callable[[Path], None]) -> None:
    """Such as have ended since must not come back; the members are announced to have left, once."""

    async def life() -> None:
        engine, _ = await runs.open()
        await register(engine, ANN, "a")
        await engine.close()
        change(runs.path)
        assert await restart(runs) == ([], [("ann", False)])
        assert await restart(runs) == ([], [])

    asyncio.run(life())


@pytest.mark.parametrize("is_written", [False, True])
def test_a_kill_during_a_start_changes_nothing(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, is_written: bool
) -> None:
    """Whether the file has the name of the new run already, or only the file beside it."""

    async def life() -> None:
        engine, _ = await runs.open()
        await register(engine, ANN, "a")
        before = engine.position
        await killed(engine)

        class Killed(Exception):
            pass

        write = SqliteFile.write

        def write_and_end(file: SqliteFile, writes: Any, erases: bool = False) -> None:
            if is_written:
                write(file, writes, erases)
            raise Killed

        for _ in range(2):
            with monkeypatch.context() as context:
                context.setattr(SqliteFile, "write", write_and_end)
                with pytest.raises(Killed):
                    await runs.open()
        again, _ = await runs.open()
        assert again.position == before
        await killed(again)
        assert await restart(runs) == (["of-ann"], [])
        assert "\n" not in Path(f"{runs.path}-lock").read_text()

    asyncio.run(life())


def test_columns_of_a_newer_version_are_no_obstacle(runs: Runs) -> None:
    """Only the columns that this version knows are read."""

    async def life() -> None:
        engine, _ = await runs.open()
        await register(engine, ANN, "a")
        await engine.close()
        with closing(sqlite3.connect(runs.path)) as database:
            for table in ("connections", "subscriptions"):
                database.execute(f"ALTER TABLE {table} ADD COLUMN newer TEXT DEFAULT 'x'")
            database.commit()
        assert await restart(runs) == (["of-ann"], [])

    asyncio.run(life())


BOB, CID = Member("of-bob", "bob", V07), Member("of-cid", "cid", V07)


def test_what_the_disk_refuses_is_taken_back_or_written_later(runs: Runs) -> None:
    """A new connection is taken back; who joins, leaves or ends has done so, which is written when that is possible."""

    async def life() -> None:
        engine, _ = await runs.open()
        await register(engine, BOB, "a", "b")
        await register(engine, CID, "a")
        write, engine._file.write = engine._file.write, refuse  # type: ignore[method-assign]
        with pytest.raises(Unavailable):
            await engine.connect(ANN, EMPTY)
        await engine.join(BOB, {"c": {}})
        await engine.leave(BOB, ["b"])
        with pytest.raises(Unavailable):
            await engine.disconnect(CID, ["a"])
        engine._file.write = write  # type: ignore[method-assign]
        await engine.configure({"z": {}})
        await killed(engine)
        again, _ = await runs.open()
        [found] = await again.restored_connections()
        assert (found.member, set(found.channels)) == (BOB, {"a", "c"})
        await killed(again)

    asyncio.run(life())


def test_a_disk_that_fails_for_long_takes_no_memory(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection leaves no row to write, and the rows that the others leave are bounded."""

    async def life() -> None:
        engine, _ = await runs.open()
        write, engine._file.write = engine._file.write, refuse  # type: ignore[method-assign]
        for number in range(20):
            with pytest.raises(Unavailable, match="cannot write"):
                await engine.connect(Member(str(number), "ann", V07), EMPTY)
        assert engine._commits.deferred().registrations.size == 0
        monkeypatch.setattr(group_commit, "WAITING_BYTES", 100 * group_commit.ROW_BYTES)
        with pytest.raises(Unavailable, match="does not keep up"):
            for number in range(200):
                with suppress_failed_write():
                    await engine.configure({f"c{number}": {}})
        assert engine._commits.deferred().rows <= 101
        engine._file.write = write  # type: ignore[method-assign]
        await engine.flush()
        await register(engine, ANN, "a")
        await killed(engine)

    asyncio.run(life())


def test_a_channel_that_comes_and_goes_while_the_disk_fails_takes_no_memory(runs: Runs) -> None:
    """Lines of strangers may join one and leave it again and again, and it is forgotten each time."""
    guest = Member("of-guest", GUEST, V07)

    async def life() -> None:
        engine, _ = await runs.open()
        await register(engine, guest)
        write, engine._file.write = engine._file.write, refuse  # type: ignore[method-assign]
        runs.setup.clock.passed_s += SOON_S
        for _ in range(20):
            await engine.join(guest, {"brief": {}})
            await engine.leave(guest, ["brief"])
            await engine.collect()
            assert "brief" not in engine.registry.channels
        with pytest.raises(Unavailable):
            await engine.flush()
        assert len(engine._commits.deferred().forgotten_channels) == 1
        engine._file.write = write  # type: ignore[method-assign]
        await engine.flush()
        await killed(engine)

    asyncio.run(life())


def test_who_went_while_the_disk_failed_has_gone_after_a_restart(runs: Runs) -> None:
    """A user is idle since the last connection ended, and who was forgotten stays so."""
    runs.setup.users_s = 1000.0

    async def life() -> None:
        engine, _ = await runs.open()
        await register(engine, BOB)
        await engine.disconnect(BOB, [])
        await register(engine, ANN)
        runs.setup.clock.passed_s += 2000.0
        write, engine._file.write = engine._file.write, refuse  # type: ignore[method-assign]
        with pytest.raises(Unavailable):
            await engine.disconnect(ANN, [])
        gone_s = runs.setup.clock.wall()
        await engine.collect()
        with pytest.raises(Unavailable):
            await engine.flush()
        runs.setup.clock.passed_s += 500.0
        engine._file.write = write  # type: ignore[method-assign]
        await engine.flush()
        await killed(engine)
        again, _ = await runs.open()
        assert [(user.name, user.last_active_s) for user in await again.users(None)] == [("ann", gone_s)]
        await killed(again)

    asyncio.run(life())


@contextmanager
def suppress_failed_write() -> Iterator[None]:
    """Ignore that the write of a call has failed, but not that too much waits."""
    try:
        yield
    except Unavailable as error:
        if "cannot write" not in str(error):
            raise


def test_a_cancelled_connect_is_not_restored(runs: Runs) -> None:
    """Its caller was not answered and does not unregister it."""

    async def life() -> None:
        engine, _ = await runs.open()
        asking = asyncio.create_task(engine.connect(ANN, EMPTY))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await engine.flush()
        await asyncio.sleep(0)
        await engine.flush()
        await killed(engine)
        assert await restart(runs) == ([], [])

    asyncio.run(life())


def test_a_cancelled_connect_that_the_disk_refuses_is_taken_back_once(runs: Runs) -> None:
    """Another connection of its user stays."""

    async def life() -> None:
        engine, _ = await runs.open()
        await register(engine, Member("another", "ann", V07), "a")
        write, engine._file.write = engine._file.write, refuse  # type: ignore[method-assign]
        asking = asyncio.create_task(engine.connect(ANN, EMPTY))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        with pytest.raises(Unavailable):
            await engine.flush()
        engine._file.write = write  # type: ignore[method-assign]
        await engine.flush()
        assert engine.registry.users["ann"].connections == 1
        await killed(engine)

    asyncio.run(life())


@pytest.mark.parametrize("turns", range(1, 5))
def test_a_connection_outlives_a_cancelled_connect_with_its_id(runs: Runs, turns: int) -> None:
    """As of an application that gives up, and asks again: what is taken back is the first one only."""

    async def life() -> None:
        engine, _ = await runs.open()
        asking = asyncio.create_task(engine.connect(ANN, EMPTY))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert asking.cancelled()
        await register(engine, ANN, "a")
        await engine.configure({"z": {}})
        assert engine.registry.users["ann"].connections == 1
        await killed(engine)
        again, _ = await runs.open()
        [found] = await again.restored_connections()
        assert (found.member, set(found.channels)) == (ANN, {"a"})
        await killed(again)

    asyncio.run(life())


def test_a_cancelled_join_is_not_restored_and_a_cancelled_leave_is(runs: Runs) -> None:
    """Both are taken back; of a channel that was left and joined again, what was missed cannot be proven."""

    async def life() -> None:
        engine, _ = await runs.open()
        await register(engine, ANN, "a")
        for work in (engine.join(ANN, {"b": {}}), engine.leave(ANN, ["a"])):
            asking = asyncio.create_task(work)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            assert asking.cancelled()
        await engine.flush()
        await killed(engine)
        again, _ = await runs.open()
        [found] = await again.restored_connections()
        assert {name: read_range.since for name, read_range in found.channels.items()} == {"a": -1}
        await killed(again)

    asyncio.run(life())


def test_a_join_and_its_announcement_are_written_at_once(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """However full the batch is: a crash between two writes would leave a member that nobody has announced."""
    monkeypatch.setattr(group_commit, "BATCH_ROWS", 1)
    written: list[tuple[int, int]] = []

    async def life() -> None:
        engine, _ = await runs.open()
        write = engine._file.write

        def spy(writes: Any, erases: bool = False) -> None:
            rows = {bulk: rows for bulk, rows in writes if rows}
            written.append((len(rows.get(PUT_SUBSCRIPTIONS, ())), len(rows.get(PUT_MEMBERS, ()))))
            write(writes, erases)

        engine._file.write = spy  # type: ignore[method-assign]
        await register(engine, ANN, *(f"c{number}" for number in range(40)))
        await killed(engine)

    asyncio.run(life())
    assert [each for each in written if any(each)] == [(40, 40)]


def refuse(_writes: object, erases: bool = False) -> None:
    raise OSError("The disk is full.")
