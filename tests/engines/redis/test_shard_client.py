"""Calls to the script: their deadlines, and what fails them."""

import asyncio
import signal
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.engines.conformance import message
from tests.engines.conformance.nodes import received
from tests.engines.redis.nodes import (
    SHORT_S,
    Nodes,
    begin_to_end,
    cut,
    in_many,
    link_of,
    published,
    sent_calls,
)
from tests.redis_server import RedisServer
from tests.stoppable_line import StoppableLine
from tests.waiting import PATIENCE_S, soon

from channelstream.engines.redis.address import shard_addresses
from channelstream.engines.redis.engine import RedisEngine
from channelstream.errors import Unavailable


def test_a_stopped_redis_refuses_and_recovers(redis: RedisServer, with_nodes: Any) -> None:
    """Calls fail in time; when Redis continues, the log is the same one and nothing is missed or doubled."""

    async def life(nodes: Nodes) -> None:
        engine, listener = await nodes.member("ann", "a")
        epoch = engine.position.epochs
        await engine.publish([message("m1")])
        redis.signal(signal.SIGSTOP)
        with pytest.raises(Unavailable):
            await engine.publish([message("m2")])
        with pytest.raises(Unavailable):
            await engine.head()
        redis.signal(signal.SIGCONT)
        await published(engine, message("m2"))
        await published(engine, message("m3"))
        await soon(lambda: "m3" in received(listener))
        assert received(listener) == ["m1", "m2", "m3"]
        assert (engine.position.epochs, listener.renewals) == (epoch, 0)

    with_nodes(life, timeout_s=SHORT_S)


async def in_flight(engine: RedisEngine, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    """Start a call that is sent when this returns, and has no answer yet."""
    before = sent_calls(engine)
    task = asyncio.ensure_future(work)
    while sent_calls(engine) == before and not task.done():
        await asyncio.sleep(0)
    return task


def test_a_call_that_has_failed_is_not_run_later(with_a_line: Any) -> None:
    """Though its link broke right after it was sent: it fails only when Redis would refuse to run it."""

    async def life(line: StoppableLine, near: Nodes, others: Nodes) -> None:
        engine, listener = await near.member("ann", "a")
        speaker, _ = await others.node()
        line.cut()
        begun_s = time.monotonic()
        publishing = await in_flight(engine, engine.publish([message("late")]))
        cut(engine)
        with pytest.raises(Unavailable):
            await publishing
        assert time.monotonic() - begun_s >= near.settings.timeout_s
        line.mend()
        await published(engine, message("m1"))
        await published(speaker, message("m2"))
        await soon(lambda: "m2" in received(listener))
        assert received(listener) == ["m1", "m2"]

    with_a_line(life)


def test_a_call_that_has_failed_is_not_run_later_though_redis_set_its_clock_back(with_a_line: Any) -> None:
    """Every answer carries the time of Redis, so that the node knows its deadline by that clock."""

    async def life(line: StoppableLine, near: Nodes, others: Nodes) -> None:
        engine, listener = await near.member("ann", "a")
        [shard] = engine._shards
        assert shard.link.present is not None
        # As if that clock had been an hour ahead until now.
        shard.link.present._clock_offset_ms += 3_600_000.0
        await engine.head()
        line.cut()
        with pytest.raises(Unavailable):
            await engine.publish([message("late")])
        line.mend()
        await published(engine, message("m1"))
        await soon(lambda: "m1" in received(listener))
        assert received(listener) == ["m1"]

    with_a_line(life)


def test_a_clock_is_never_taken_for_further_ahead_than_it_is(redis: RedisServer, with_one_shard: Any) -> None:
    """However long an answer was on its way: Redis gives up a later call before the node does."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        link = link_of(engine)
        reading = await in_flight(engine, engine.head())
        while link._unsent:
            await asyncio.sleep(0)
        assert redis.cli("PING") == redis.cli("PING") == "PONG"  # So that the call has been run.
        time.sleep(0.1)  # real time: the answer lies here, as it does where the loop is busy.
        await reading
        ahead_ms = link._clock_offset_ms
        assert ahead_ms <= 1000 * time.time() - 1000 * time.monotonic() - 90

    with_one_shard(life)


def deadlines(engine: RedisEngine, operation: str) -> list[float]:
    """Record from now on the deadlines that operations send to Redis, by the clock of the node, in ms."""
    found: list[float] = []
    [shard] = engine._shards
    link: Any = shard.link.present
    sent = link._enqueue

    def recorded(parts: Any, reads: bool) -> Any:
        if parts[0] == "EVALSHA" and operation in parts:
            found.append(float(parts[-1]) - link._clock_offset_ms)
        return sent(parts, reads)

    link._enqueue = recorded
    return found


def test_a_call_has_one_deadline_however_often_it_is_sent(with_a_line: Any) -> None:
    """A call that is sent again since the clock of Redis was set does not wait again."""

    async def life(line: StoppableLine, near: Nodes, others: Nodes) -> None:
        engine, _ = await near.member("ann", "a")
        [shard] = engine._shards
        assert shard.link.present is not None
        found = deadlines(engine, "publish")
        shard.link.present._clock_offset_ms -= 3_600_000.0
        line.cut()
        publishing = await in_flight(engine, engine.publish([message("m1")]))
        await asyncio.sleep(0.1)  # real time: which the call has lost when it is sent again.
        line.mend()
        await publishing
        first, second = found
        assert abs(second - first) <= 1

    with_a_line(life, timeout_s=PATIENCE_S)


def test_steps_of_a_call_have_one_deadline(with_one_shard: Any) -> None:
    """Where Redis does it in slices, the last slice has the deadline of the first."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.node()
        await in_many(engine, recorder, "ann")
        await begin_to_end(engine, "many")
        found = deadlines(engine, "disconnect")
        [shard] = engine._shards
        step = shard.client.step

        async def slow(*about: Any, **arguments: Any) -> Any:
            await asyncio.sleep(0.02)  # real time: which passes between the steps.
            return await step(*about, **arguments)

        shard.client.step = slow  # type: ignore[method-assign]
        await shard.client.call("disconnect", conn_id="many", node=engine.cluster._registrar.node)
        assert len(found) >= 2
        assert max(found) - min(found) <= 1

    with_one_shard(life, lease_s=PATIENCE_S)  # A beat would end it as well.


def test_a_call_sent_near_its_deadline_does_not_break_the_link(with_a_line: Any) -> None:
    """A missing answer does not show that the link is broken."""

    async def life(line: StoppableLine, near: Nodes, others: Nodes) -> None:
        engine, _ = await near.node()
        [shard], link = engine._shards, link_of(engine)
        line.cut()
        with pytest.raises(Unavailable, match="does not answer"):
            await shard.client.step("head", until_s=asyncio.get_running_loop().time())
        assert not link.broken.is_set()
        line.mend()
        await engine.head()
        assert shard.link.present is link

    with_a_line(life, timeout_s=PATIENCE_S)


def test_a_call_in_flight_is_answered_though_its_link_is_given_up(with_one_shard: Any) -> None:
    """The subscription was given up: no caller needs an error that says that the outcome is unknown."""

    async def life(nodes: Nodes) -> None:
        engine, listener = await nodes.member("ann", "a")
        publishing = await in_flight(engine, engine.publish([message("m1")]))
        cut(engine)
        [accepted] = await publishing
        assert not accepted.duplicate
        await soon(lambda: received(listener) == ["m1"])

    with_one_shard(life)


def test_a_call_that_only_reads_fails_with_its_connection(redis: RedisServer, tmp_path: Path) -> None:
    """A late run of it changes nothing, so that the caller need not wait."""

    async def life(server: RedisServer) -> None:
        nodes = Nodes(shard_addresses(server.address), timeout_s=PATIENCE_S)
        engine, _ = await nodes.node()
        server.signal(signal.SIGSTOP)
        reading = await in_flight(engine, engine.head())
        server.kill()
        async with asyncio.timeout(PATIENCE_S / 2):
            with pytest.raises(Unavailable):
                await reading
        await nodes.close()

    server = RedisServer(tmp_path, "--save", "")
    server.start()
    asyncio.run(life(server))


def test_setting_the_clock_of_redis_refuses_nothing(with_nodes: Any) -> None:
    """However far it jumps: the node reads the clock again."""

    async def life(nodes: Nodes) -> None:
        engine, listener = await nodes.member("ann", "a")
        for number, ahead_ms in enumerate((-3_600_000.0, 3_600_000.0)):
            for shard in engine._shards:
                assert shard.link.present is not None
                shard.link.present._clock_offset_ms += ahead_ms
            await engine.publish([message(f"m{number}")])
            assert all(shard.is_linked for shard in engine._shards)
        await soon(lambda: received(listener) == ["m0", "m1"])

    with_nodes(life)
