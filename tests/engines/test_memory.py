"""The memory engine: the shared suite, and tests of this engine alone."""

import asyncio
from itertools import count, pairwise

import pytest
from tests.engines.conformance import *  # noqa: F403
from tests.engines.conformance import MakeEngine, MovedClock, Recorder, Setup, message

from channelstream import slices
from channelstream.apps.keys import is_member_key
from channelstream.core.budget import EXPIRY_BATCH
from channelstream.core.registry import Registry
from channelstream.core.registry_limits import Lifetimes, RegistryLimits
from channelstream.engines.memory import MemoryEngine


def memory_engine(setup: Setup, epoch: str = "first") -> MemoryEngine:
    ids = (f"id{number}" for number in count())
    registry = Registry(setup.limits, lambda: next(ids), is_member_key)
    lifetimes = Lifetimes(setup.users_s, setup.channels_s)
    return MemoryEngine(registry, setup.clock, epoch, lifetimes, setup.outbox)


@pytest.fixture
def make_engine() -> MakeEngine:
    return memory_engine


def test_its_name_is_memory() -> None:
    """As in the configuration."""
    assert memory_engine(Setup()).name == "memory"


def test_the_receiver_is_called_before_publish_returns() -> None:
    """The event loop is the lock: one step of a coroutine does it all."""
    engine, recorder = memory_engine(Setup()), Recorder()
    asyncio.run(engine.start(recorder))
    with pytest.raises(StopIteration):
        engine.publish([message("m1")]).send(None)
    assert [entry.event.uuid for entry in recorder.entries] == ["m1"]


def test_its_position_begins_at_zero_in_its_epoch() -> None:
    """A new run has a new epoch, so that no position of an older run is taken for its own."""
    one, two = memory_engine(Setup()), memory_engine(Setup(), "second")
    assert str(one.position) == "first-0"
    assert one.position != two.position


def test_collecting_frees_aged_events() -> None:
    """The budget gets the bytes back without a read of the log."""
    clock = MovedClock()
    engine = memory_engine(Setup(clock, RegistryLimits(log_age_s=60.0)))

    async def life() -> None:
        await engine.start(Recorder())
        await engine.configure({"a": {}})
        await engine.publish([message("m1")])
        clock.passed_s += 61.0
        await engine.collect()

    asyncio.run(life())
    assert engine.registry.budget.used_bytes == 0


def test_other_tasks_run_while_aged_events_are_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many have grown too old at once."""
    monkeypatch.setattr(slices, "TURN_S", -1.0)
    clock, events = MovedClock(), 4 * EXPIRY_BATCH
    engine = memory_engine(Setup(clock, RegistryLimits(log_age_s=60.0)))
    budget = engine.registry.budget

    async def life() -> list[int]:
        await engine.start(Recorder())
        await engine.configure({"a": {"log_events": events}})
        await engine.publish([message(f"m{number}") for number in range(events)])
        clock.passed_s += 61.0
        collecting, used = asyncio.create_task(engine.collect()), [budget.used_bytes]
        while not collecting.done():
            await asyncio.sleep(0)
            used.append(budget.used_bytes)
        return used

    used = asyncio.run(life())
    assert used[-1] == 0
    assert max(before - after for before, after in pairwise(used)) < used[0] / 2
