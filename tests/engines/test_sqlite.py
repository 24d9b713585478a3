"""The SQLite engine: the shared suite, and tests of this engine alone."""

import asyncio
import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from tests.engines.conformance import *  # noqa: F403
from tests.engines.conformance import MakeEngine, Settle, message, private, uuids
from tests.engines.sqlite_runs import ANN, Runs, sqlite_engine

from channelstream.core.events import Message, Presence
from channelstream.core.registry import Registry
from channelstream.core.registry_limits import RegistryLimits
from channelstream.core.user import UserUpdate
from channelstream.engines.base import Engine
from channelstream.engines.group_commit import Batch
from channelstream.engines.members import Member
from channelstream.engines.sqlite import SqliteEngine
from channelstream.engines.sqlite_writes import writes_of
from channelstream.errors import Unavailable
from channelstream.wire.channelstream import V07


@pytest.fixture
def make_engine(tmp_path: Path) -> MakeEngine:
    numbers = count()
    return lambda setup: sqlite_engine(tmp_path / f"{next(numbers)}.db", setup)


@pytest.fixture
def settle() -> Settle:
    async def flush(engine: Engine) -> None:
        assert isinstance(engine, SqliteEngine)
        await engine.flush()

    return flush


@pytest.mark.slow
def test_nothing_is_half_accepted_while_the_file_takes_no_writes(runs: Runs) -> None:
    """Requests are refused and not delivered; once the disk is back all continues, without a gap in the offsets."""

    async def life() -> None:
        engine, recorder = await runs.open()
        await engine.connect(ANN, UserUpdate({"mood": 1}, {}))
        await engine.join(ANN, {"a": {"notify_presence": True}})
        with closing(sqlite3.connect(runs.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            refused = await asyncio.gather(
                engine.publish([message("m1")]),
                engine.update_user("ann", UserUpdate({"mood": 2}, {})),
                engine.configure({"a": {"history_size": 3}, "new": {}}),
                engine.connect(Member("2", "bob", V07), UserUpdate({}, {})),
                return_exceptions=True,
            )
            await engine.leave(ANN, ["a"])
            other.execute("ROLLBACK")
        assert [type(each) for each in refused] == [Unavailable] * 4
        ((user,), (channel,)) = await engine.users(None), await engine.channels(None)
        assert (user.state, channel.settings.history_size) == ({"mood": 1}, 10)
        assert not (await engine.publish([message("m1")]))[0].duplicate
        announced = [(e.offset, type(e.event)) for e in recorder.entries]
        assert announced == [(1, Presence), (2, Presence), (3, Message)]
        await engine.close()

    asyncio.run(life())


def test_a_file_that_took_no_write_is_probed_with_a_row() -> None:
    """A transaction without one would succeed on a full disk."""

    async def life() -> list[int]:
        batch = Batch(asyncio.get_running_loop().create_future())
        found = (
            writes_of(batch, Registry(RegistryLimits(), str), 0, 0.0, probes) for probes in (False, True)
        )
        return [sum(len(rows) for _, rows in [*writes.before, *writes.state]) for writes in found]

    assert asyncio.run(life()) == [0, 1]


@pytest.mark.slow
def test_a_refused_change_of_settings_drops_nothing(runs: Runs) -> None:
    """Entries that a shorter log would have dropped can still be resumed from, and the history shows them."""

    async def life() -> None:
        engine, _ = await runs.open()
        await engine.configure({"a": {"store_history": True}})
        await engine.publish([message(f"m{number}") for number in range(5)])
        with closing(sqlite3.connect(runs.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable):
                await engine.configure({"a": {"log_events": 1, "history_size": 2}})
            other.execute("ROLLBACK")
        replay = await engine.replay("ann", {"a": 0}, 9)
        assert (uuids(replay), replay.lost) == ([f"m{number}" for number in range(5)], frozenset())
        assert len((await engine.channels(["a"]))[0].history.entries) == 5
        assert (await engine.publish([message("m0")]))[0].duplicate
        await engine.close()
        again, _ = await runs.open()
        assert uuids(await again.replay("ann", {"a": 0}, 9)) == [f"m{number}" for number in range(5)]
        await again.close()

    asyncio.run(life())


def test_a_connection_whose_request_is_cancelled_is_unregistered(runs: Runs) -> None:
    """Its commit continues; the user must not stay connected for ever."""

    async def life() -> None:
        engine, _ = await runs.open()
        asking = asyncio.create_task(engine.connect(ANN, UserUpdate({"mood": 1}, {})))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await engine.flush()
        await asyncio.sleep(0)
        (user,) = await engine.users(None)
        assert (user.connections, user.state) == (0, {"mood": 1})
        await engine.close()

    asyncio.run(life())


def test_writes_under_way_when_the_engine_closes_are_kept(runs: Runs) -> None:
    """They are written first, though their callers are gone."""

    async def life() -> None:
        engine, _ = await runs.open()
        await engine.configure({"a": {}})
        publishing = asyncio.create_task(engine.publish([message("m1")]))
        await asyncio.sleep(0)
        publishing.cancel()
        await engine.close()
        again, _ = await runs.open()
        assert uuids(await again.replay("ann", {"a": 0}, 9)) == ["m1"]
        await again.close()

    asyncio.run(life())


def test_deliveries_arrive_in_offset_order_for_every_awaiter(runs: Runs) -> None:
    """Over many batches, with calls of several kinds under way at once."""

    async def life() -> None:
        engine, recorder = await runs.open()
        await engine.connect(ANN, UserUpdate({}, {}))
        await engine.join(ANN, {"a": {"notify_presence": True}})
        calls = [
            engine.publish([message(f"m{number}"), private(f"p{number}", "ann")]) for number in range(700)
        ]
        joins = [engine.join(ANN, {"a": {}}), engine.configure({"a": {"log_events": 50}})]
        await asyncio.gather(*calls[:300], *joins, *calls[300:])
        assert [entry.offset for entry in recorder.entries] == list(range(1, 1402))
        assert engine.position.offsets == (1401,)
        await engine.close()

    asyncio.run(life())


def test_requests_beyond_the_disk_queue_are_refused(runs: Runs) -> None:
    """And requests that waited already are accepted."""

    async def life() -> None:
        engine, _ = await runs.open()
        large = b'"' + b"x" * (1 << 20) + b'"'
        calls = [
            engine.publish([Message(uuid=f"m{n}", channel="a", user="ann", timestamp="t", payload=large)])
            for n in range(40)
        ]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, Unavailable)]
        assert 0 < len(refused) < 40
        assert engine.position.offsets == (40 - len(refused),)
        await engine.close()

    asyncio.run(life())
