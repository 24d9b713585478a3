"""The outbox in the SQLite engine's file."""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.engines.conformance.lab import ALL_FACTS, EMPTY, Setup
from tests.engines.conformance.outbox import fact_form, missed
from tests.engines.sqlite_runs import Runs
from tests.engines.test_sqlite_connections import killed, register

from channelstream.apps.keys import DEFAULT, make_key
from channelstream.apps.wanted_facts import NOTHING_WANTED
from channelstream.core.facts import encode
from channelstream.engines.members import Member
from channelstream.engines.outbox import OutboxSettings
from channelstream.engines.sqlite import SqliteEngine
from channelstream.engines.sqlite_facts import DROP_FACTS
from channelstream.engines.sqlite_faults import NotWritten
from channelstream.engines.sqlite_file import Writes
from channelstream.errors import Unavailable
from channelstream.wire.channelstream import V07

ANN, BOB = Member("of-ann", "ann", V07), Member("of-bob", "bob", V07)


async def facts_in(engine: SqliteEngine) -> list[tuple[str, ...]]:
    return [
        fact_form(each.fact)
        for each in await engine.outbox.read(DEFAULT, (0,), 100_000)
        if each.fact is not None
    ]


def forget_connections(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("DELETE FROM connections")
        file.execute("DELETE FROM subscriptions")


def test_what_is_lost_with_a_run_has_ended(runs: Runs) -> None:
    """Once, in the order in which it ends otherwise; also in channels whose members are not announced."""

    async def life() -> None:
        engine, _ = await runs.open()
        await register(engine, ANN, "loud")
        await engine.join(ANN, {"quiet": {}})
        await register(engine, BOB)
        await engine.disconnect(BOB, [])
        before = await facts_in(engine)
        await killed(engine)
        forget_connections(runs.path)
        for _ in range(2):
            engine, _ = await runs.open()
            ended = (await facts_in(engine))[len(before) :]
            assert [each[:2] for each in ended] == [
                ("removed", "loud"), ("vacated", "loud"), ("vacated", "quiet"), ("closed", "ann"), ("offline", "ann"),
            ]  # fmt: skip
            await killed(engine)

    asyncio.run(life())


def test_a_crash_in_the_middle_of_leaving_loses_no_end(runs: Runs) -> None:
    """The row of the connection is deleted first, and the process dies before the rest is written."""

    async def life() -> None:
        engine, _ = await runs.open()
        await register(engine, ANN)
        await engine.join(ANN, {"a": {}, "b": {}})
        write = engine._file.write

        def spy(writes: Writes, erases: bool = False) -> None:
            write([each for each in writes if "fact" not in each[0].before], erases)

        engine._file.write = spy  # type: ignore[method-assign]
        await engine.disconnect(ANN, ["a", "b"])
        assert [each[0] for each in await facts_in(engine)] == ["online", "opened", "occupied", "occupied"]
        await killed(engine)
        engine, _ = await runs.open()
        assert Counter(each[0] for each in await facts_in(engine)) == {
            "online": 1, "opened": 1, "occupied": 2, "vacated": 2, "closed": 1, "offline": 1,
        }  # fmt: skip
        await killed(engine)

    asyncio.run(life())


def test_what_the_disk_refuses_is_written_later(runs: Runs) -> None:
    """In order: nobody reads a fact that is not in the file, and what is taken back has ended."""

    async def life() -> None:
        engine, _ = await runs.open()
        await register(engine, BOB)
        await engine.join(BOB, {"a": {}})
        before = await facts_in(engine)
        write, engine._file.write = engine._file.write, _refuse  # type: ignore[method-assign]
        with pytest.raises(Unavailable):
            await engine.connect(ANN, EMPTY)
        await engine.join(BOB, {"b": {}})
        await engine.leave(BOB, ["a"])
        await engine.outbox.append(missed("a"))
        assert await facts_in(engine) == before
        engine._file.write = write  # type: ignore[method-assign]
        await engine.configure({"z": {}})
        later = (await facts_in(engine))[len(before) :]
        assert [each[0] for each in later if each[1] == "ann"] == ["online", "opened", "closed", "offline"]
        assert [each for each in later if each[1] != "ann"] == [
            ("occupied", "b"), ("vacated", "a"), ("cache_miss", "a"),
        ]  # fmt: skip
        await killed(engine)

    asyncio.run(life())


def _refuse(_writes: object, erases: bool = False) -> None:
    raise OSError("The disk is full.")


def _refuse_drops(engine: SqliteEngine) -> Callable[..., None]:
    write = engine._file.write

    def refuse(writes: Writes, erases: bool = False) -> None:
        if any(bulk is DROP_FACTS for bulk, _ in writes):
            raise NotWritten(sqlite3.OperationalError("full"))
        write(writes, erases)

    return refuse


def test_bounds_count_over_a_restart(runs: Runs) -> None:
    """And so does what was dropped."""
    runs.setup = Setup(outbox=OutboxSettings(ALL_FACTS.wanted, most_facts=5))

    async def life() -> None:
        engine, _ = await runs.open()
        await engine.outbox.append(missed(*"abcdefg"))
        before = await engine.outbox.state()
        assert (before.facts, before.dropped) == (5, 2)
        await killed(engine)
        engine, _ = await runs.open()
        assert await engine.outbox.state() == before
        await engine.outbox.append(missed("h"))
        assert [each[1] for each in await facts_in(engine)] == [*"defgh"]
        assert (await engine.outbox.state()).dropped == 3
        await killed(engine)

    asyncio.run(life())


def test_facts_of_an_older_version_are_sent(runs: Runs) -> None:
    """Each to its application, and before those that follow, which no cursor of the older version has passed."""
    older, of_shop = missed("b", "c", "d"), missed(make_key("shop", "s"))

    async def life() -> None:
        engine, _ = await runs.open()
        await engine.close()
        with closing(sqlite3.connect(runs.path)) as file, file:
            file.execute("DROP TABLE facts")
            file.execute("CREATE TABLE facts (number INTEGER PRIMARY KEY AUTOINCREMENT, data BLOB NOT NULL)")
            file.executemany("INSERT INTO facts VALUES (?, ?)", enumerate(map(encode, [*older, *of_shop]), 7))
            file.execute("INSERT INTO facts VALUES (11, ?)", (b"of a version to come",))
            file.execute("DELETE FROM facts WHERE number = 7")
            file.execute("INSERT INTO fact_cursors VALUES ('one', 7)")
        engine, _ = await runs.open()
        await engine.outbox.append(missed("e"))
        cursor = (await engine.outbox.cursors())["one"]
        found = await engine.outbox.read(DEFAULT, cursor, 100)
        assert [each.fact and each.fact.place for each in found] == ["c", "d", None, "e"]
        assert [each.fact for each in await engine.outbox.read("shop", cursor, 100)] == list(of_shop)
        assert (await engine.outbox.state()).facts == 5
        await killed(engine)

    asyncio.run(life())


def test_what_a_later_version_has_begun_is_not_ended(runs: Runs) -> None:
    """It stays in the file, for the version that knows whether it goes on."""

    async def life() -> None:
        engine, _ = await runs.open()
        await killed(engine)
        row = ("of-a-later-version", "ann", "")
        with closing(sqlite3.connect(runs.path)) as file, file:
            file.execute("INSERT INTO begun_facts VALUES (?, ?, ?)", row)
        engine, _ = await runs.open()
        assert await facts_in(engine) == []
        await killed(engine)
        with closing(sqlite3.connect(runs.path)) as file:
            assert file.execute("SELECT kind, place, other FROM begun_facts").fetchall() == [row]

    asyncio.run(life())


def test_an_older_version_may_write_facts_again(runs: Runs) -> None:
    """It numbers them behind those of this version, so its cursors pass none of these."""

    async def life() -> None:
        engine, _ = await runs.open()
        await engine.outbox.append(missed("a"))
        await engine.close()
        [fact] = missed(make_key("shop", "b"))
        with closing(sqlite3.connect(runs.path)) as file, file:
            file.execute("INSERT INTO facts (data) VALUES (?)", (encode(fact),))
            assert len(file.execute("SELECT data FROM facts WHERE number > 0").fetchall()) == 2
        engine, _ = await runs.open()
        assert [(each.number, each.fact) for each in await engine.outbox.read("shop", (1,), 100)] == [
            (2, fact)
        ]
        await killed(engine)

    asyncio.run(life())


def test_a_run_without_webhooks_empties_the_outbox(runs: Runs) -> None:
    """Nobody would ever read it."""

    async def life() -> None:
        engine, _ = await runs.open()
        await register(engine, ANN, "a")
        await engine.outbox.settle(1, {DEFAULT: {"one": (1,)}})
        await killed(engine)
        runs.setup = Setup(outbox=OutboxSettings(NOTHING_WANTED))
        engine, _ = await runs.open()
        assert (await facts_in(engine), await engine.outbox.cursors()) == ([], {})
        await killed(engine)
        with closing(sqlite3.connect(runs.path)) as file:
            assert file.execute("SELECT count(*) FROM begun_facts").fetchone() == (0,)

    asyncio.run(life())


def test_a_full_disk_at_the_bound_drops_later(runs: Runs) -> None:
    """The facts are in the file already; the next batch drops what is too much."""
    runs.setup = Setup(outbox=OutboxSettings(ALL_FACTS.wanted, most_facts=2))

    async def life() -> None:
        engine, _ = await runs.open()
        write, engine._file.write = engine._file.write, _refuse_drops(engine)  # type: ignore[method-assign]
        await engine.outbox.append(missed("a", "b", "c"))
        assert len(await facts_in(engine)) == 3
        engine._file.write = write  # type: ignore[method-assign]
        await engine.outbox.append(missed("d"))
        assert [each[1] for each in await facts_in(engine)] == ["c", "d"]
        await killed(engine)

    asyncio.run(life())


def test_a_closed_file_is_out_of_reach(runs: Runs) -> None:
    """As after it was handed over to another process."""

    async def life() -> None:
        engine, _ = await runs.open()
        await killed(engine)
        with pytest.raises(Unavailable):
            await engine.outbox.read(DEFAULT, (0,), 1)

    asyncio.run(life())


def test_a_connection_whose_request_is_cancelled_is_reported_as_closed(runs: Runs) -> None:
    """Its beginning has been written."""

    async def life() -> list[str]:
        engine, _ = await runs.open()
        asking = asyncio.create_task(engine.connect(ANN, EMPTY))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        for _ in range(2):
            await engine.flush()
            await asyncio.sleep(0)
        await engine.flush()
        found = [kind for kind, *_ in await facts_in(engine)]
        await killed(engine)
        return found

    assert sorted(asyncio.run(life())) == ["closed", "offline", "online", "opened"]
