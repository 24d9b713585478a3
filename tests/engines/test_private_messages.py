"""Private messages to very many users: each user costs little, and the loop turn that accepts one has nothing else."""

import asyncio
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from tests.calls import calls
from tests.engines.conformance import Recorder, Setup
from tests.engines.sqlite_runs import sqlite_engine

from channelstream.core.connection import Connection
from channelstream.core.entry import Entry
from channelstream.core.events import Message, Names
from channelstream.core.hub import Hub
from channelstream.core.moment import Moment
from channelstream.core.registry import Registry
from channelstream.core.registry_limits import RegistryLimits
from channelstream.wire.channelstream import V07
from channelstream.wire.protocols import PROTOCOLS

MANY = frozenset(f"user {number}" for number in range(200))
FEW = frozenset(sorted(MANY)[:100])
NOW = Moment(0.0, 0.0)


def private(uuid: str, only: Names) -> Message:
    return Message(uuid=uuid, only=only, user="a", payload=b"1", timestamp="")


def per_user(work: Callable[[str, Names], object]) -> float:
    """Return the calls for each further user."""
    few, many = calls(lambda: work("few", FEW)), calls(lambda: work("many", MANY))
    return (many - few) / (len(MANY) - len(FEW))


def registry(limits: RegistryLimits) -> Registry:
    ids = count()
    made = Registry(limits, lambda: str(next(ids)))
    for name in MANY:
        made.connect(made.open_user(name, {}, 0, NOW), NOW)
    return made


@pytest.mark.parametrize(
    ("limits", "most"),
    [(RegistryLimits(user_log_events=9), 4), (RegistryLimits(user_log_events=2), 8)],
    ids=["with room", "full"],
)
def test_a_log_costs_few_calls_for_each_user(limits: RegistryLimits, most: int) -> None:
    """Append, index, bytes and place in the order, and a dropped entry if it is full. The rest is done once for all."""
    logs, offsets = registry(limits), count(1)

    def commit(uuid: str, only: Names) -> None:
        logs.commit(Entry(next(offsets), (), 0.0, private(uuid, only)), 0.0)

    commit("first", MANY)
    commit("second", MANY)
    assert per_user(commit) <= most


def test_a_duplicate_is_looked_for_with_one_call_for_each_user() -> None:
    logs = registry(RegistryLimits()).logs
    assert per_user(lambda uuid, only: logs.events_about(private(uuid, only))) <= 1


def test_delivery_costs_no_call_for_each_user() -> None:
    hub, offsets = Hub(PROTOCOLS.formats, lambda: None), count(1)
    for name in MANY:
        hub.add(Connection(name, name, V07, (0,), 15.0))
    assert per_user(lambda uuid, only: hub.deliver(Entry(next(offsets), (), 0.0, private(uuid, only)))) < 1


def test_a_message_that_is_being_written_is_staged_once_for_all_its_users(tmp_path: Path) -> None:
    """It is found for each of them, and for nobody else."""

    async def life() -> None:
        engine = sqlite_engine(tmp_path / "a.db", Setup())
        await engine.start(Recorder())
        batches = [("one", MANY), ("one", frozenset({"user 7"})), ("one", frozenset({"new"})), ("two", FEW)]
        publishing = [asyncio.create_task(engine.publish([private(*each)])) for each in batches]
        await asyncio.sleep(0)
        assert {key: len(entries) for key, entries in engine._log.staged.entries.items()} == {
            (None, "one"): 2,
            (None, "two"): 1,
        }
        found = [accepted.duplicate for [accepted] in await asyncio.gather(*publishing)]
        assert found == [False, True, False, False]
        assert not engine._log.staged.entries
        await engine.close()

    asyncio.run(life())
