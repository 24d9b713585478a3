"""The two connections of a node with a shard: when they are given up, closed and made again."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import uvloop
from tests.engines.conformance import message
from tests.engines.conformance.nodes import at_once, received
from tests.engines.redis.nodes import BIG, PREFIX, Nodes, big, cut, link_of, published
from tests.redis_server import RedisServer
from tests.simulation.loop import turns
from tests.stoppable_line import StoppableLine
from tests.waiting import soon

from channelstream.engines.members import Member
from channelstream.engines.redis import shard_recovery as shard_recovery_module
from channelstream.engines.redis.link import Link
from channelstream.engines.redis.link_state import NOT_REDIS
from channelstream.engines.redis.link_subscription import Subscription
from channelstream.errors import Unavailable
from channelstream.wire.channelstream import V07


def test_a_silent_subscription_is_closed(with_a_line: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Its connection does not end, and calls are answered as always; after the close all events arrive."""

    async def life(line: StoppableLine, near: Nodes, others: Nodes) -> None:
        engine, listener = await near.member("ann", "a")
        speaker, _ = await others.node()
        await published(speaker, message("m1"))
        await soon(lambda: received(listener) == ["m1"])
        line.silence_subscriptions()
        await published(engine, message("m2"))
        await published(speaker, message("m3"))
        await soon(lambda: received(listener) == ["m1", "m2", "m3"])

    with_a_line(life)
    assert "nothing arrived over its subscription" in caplog.text


def test_a_link_without_a_lease_is_closed_before_the_next_one(
    redis: RedisServer, with_one_shard: Any
) -> None:
    """A link that cannot renew the lease is closed before the next one opens."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        made = 0
        [shard] = engine._shards
        connect = shard._recovery._address.connect

        def counted() -> Any:
            nonlocal made
            made += 1
            return connect()

        shard._recovery._address = replace(shard._recovery._address, connect=counted)
        redis.cli("CONFIG", "SET", "min-replicas-to-write", "1")
        try:
            if "NOREPLICAS" not in redis.cli("EVAL", "return redis.call('SET', KEYS[1], 1)", "1", "key"):
                pytest.skip("This Redis lets scripts do it.")  # 6.2.5.
            cut(engine)
            await soon(lambda: made >= 8)
            clients = redis.cli("CLIENT", "LIST").splitlines()
        finally:
            redis.cli("CONFIG", "SET", "min-replicas-to-write", "0")
        # The node's two, two that are just being made or let go of, and the one that asks.
        assert len(clients) <= 5
        await published(engine, message("m1"))

    with_one_shard(life)


def test_a_master_that_became_a_replica_is_left(redis: RedisServer, with_one_shard: Any) -> None:
    """The node refuses and reconnects, as it must where the address leads to another master meanwhile."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        [shard] = engine._shards
        link = shard.link.present
        redis.cli("REPLICAOF", "127.0.0.1", "1")
        try:
            with pytest.raises(Unavailable):
                await engine.publish([message("m1")])
            assert link is not None
            assert link.broken.is_set()
        finally:
            redis.cli("REPLICAOF", "NO", "ONE")
        await published(engine, message("m2"))

    with_one_shard(life)


def test_a_node_survives_an_unreadable_answer(with_one_shard: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An answer that Redis does not give is logged once, without a traceback, and the node reconnects."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        [shard] = engine._shards
        hello = shard._recovery._hello
        failures = 0

        async def unreadable(link: Link) -> None:
            nonlocal failures
            if failures < 3:
                failures += 1
                raise ValueError("an answer nobody can read")
            await hello(link)

        shard._recovery._hello = unreadable  # type: ignore[method-assign]
        cut(engine)
        await published(engine, message("m1"))
        assert failures == 3

    with_one_shard(life)
    warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert sum(NOT_REDIS in warning for warning in warnings) == 1
    assert "Traceback" not in caplog.text


def test_a_message_of_an_unknown_kind_keeps_the_link(
    with_one_shard: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A newer version may send one during a rolling upgrade; it is no reply to a call that waits."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        [shard], link = engine._shards, link_of(engine)
        async with shard.client.replies.expect() as (token, reply):
            to_node = f"{shard._recovery._address.prefix}#n:{shard.client._node.name}"
            await link.command("PUBLISH", to_node, f"newer {token} text")
            await engine.catch_up([0])
            assert not reply.done()
        assert shard.link.present is link
        assert not link.broken.is_set()

    with_one_shard(life)
    assert "unknown kind: b'newer'" in caplog.text


def test_a_message_of_an_unknown_kind_to_all_keeps_the_link(
    with_one_shard: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A newer version may send one, too: it is not taken for a new epoch, and the log is not read again."""

    async def life(nodes: Nodes) -> None:
        engine, listener = await nodes.node()
        [shard], link = engine._shards, link_of(engine)
        await link.command("PUBLISH", f"{shard._recovery._address.prefix}#all", "anything else")
        await engine.catch_up([0])
        assert shard.link.present is link
        assert not link.broken.is_set()
        assert listener.renewals == 0

    with_one_shard(life)
    assert "unknown kind to all nodes: b'anything else'" in caplog.text


def test_only_channels_with_local_members_are_received(redis: RedisServer, with_nodes: Any) -> None:
    """After the last member left, the node no longer receives the channel."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.member("ann", "a")
        assert f"{PREFIX}#c:a" in redis.cli("PUBSUB", "CHANNELS").splitlines()
        recorder.members["ann"][1].clear()
        await engine.leave(Member("ann", "ann", V07), ["a"])
        await engine.collect()
        await engine.collect()
        await engine.head()
        assert f"{PREFIX}#c:a" not in redis.cli("PUBSUB", "CHANNELS").splitlines()
        assert f"{PREFIX}#u:ann" in redis.cli("PUBSUB", "CHANNELS").splitlines()

    with_nodes(life)


def test_the_end_of_a_subscription_confirms_no_later_one(
    with_one_shard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is published until Redis has the later one would not be received."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        subscription, held = link_of(engine).subscription, list[tuple[Any, ...]]()
        await subscription.subscribe(["#c:a"])
        await subscription.unsubscribe(["#c:a"])

        async def hold(_: Subscription, *sent: Any) -> None:
            held.append(sent)

        with monkeypatch.context() as patch:
            patch.setattr(Subscription, "_send_subscription", hold)
            subscribed = asyncio.create_task(subscription.subscribe(["#c:a"]))
            await soon(lambda: held and not subscription._unsubscribing)
            await turns(9)
        assert not subscribed.done()
        await subscription._send_subscription(*held[0])
        await subscribed

    with_one_shard(life)


def test_a_link_is_closed_though_its_close_was_cancelled(redis: RedisServer, with_one_shard: Any) -> None:
    """As happens where the engine is closed while Redis is out of reach."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.member("ann", "a")
        [shard], link = engine._shards, link_of(engine)
        letting_go = asyncio.create_task(shard.link.unlink())
        await asyncio.sleep(0)
        letting_go.cancel()
        await asyncio.gather(letting_go, return_exceptions=True)
        await engine.close()
        assert not link._commands.is_connected

    with_one_shard(life)


def test_a_link_is_closed_where_a_big_payload_was_never_answered(with_a_line: Any) -> None:
    """Only the last command of a pipeline has a caller: the others must not keep the socket open."""

    async def life(line: StoppableLine, near: Nodes, others: Nodes) -> None:
        engine, _ = await near.node()
        link = link_of(engine)
        line.cut()
        with pytest.raises(Unavailable):
            await engine.publish([big(1)])
        payloads = [call for call in link._calls if call.size > BIG]
        assert payloads
        assert all(call.answer.done() for call in payloads)
        link.abandon("the test cuts it")
        await soon(lambda: not link._commands.is_connected)
        line.mend()

    with_a_line(life)


def test_a_link_is_closed_though_an_unawaited_answer_never_comes(with_a_line: Any) -> None:
    """Such as the answer to the removal of a payload whose call was refused."""

    async def life(line: StoppableLine, near: Nodes, others: Nodes) -> None:
        engine, _ = await near.node()
        link = link_of(engine)
        line.cut()
        removing = link._enqueue(("HDEL", "key", "field"), reads=True)
        link.abandon("the test cuts it")
        await soon(lambda: not link._commands.is_connected)
        with pytest.raises(Unavailable):
            await removing
        line.mend()

    with_a_line(life)


def test_names_subscribed_again_have_a_deadline_for_each_chunk(
    with_one_shard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many names a node watches, it reconnects after an outage: each confirmed chunk proves progress."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.member("ann", *[f"c{number}" for number in range(8)])
        [shard] = engine._shards
        monkeypatch.setattr(shard_recovery_module, "SUBSCRIBE_AT_ONCE", 3)
        found: list[float] = []
        send = Subscription._send_subscription

        async def recorded(link: Subscription, command: str, names: list[bytes], until_s: float) -> None:
            found.append(until_s)
            await asyncio.sleep(0.01)  # real time: which passes between the pieces.
            await send(link, command, names, until_s)

        monkeypatch.setattr(Subscription, "_send_subscription", recorded)
        cut(engine)
        await soon(lambda: shard.is_linked)
        assert len(found) >= 4
        assert all(later - earlier > 0.005 for earlier, later in pairwise(found))

    with_one_shard(life)


def test_a_channel_about_to_have_a_member_stays_subscribed(with_one_shard: Any) -> None:
    """A collection between the claim of a connection and its take-over removes nothing of it."""

    async def life(nodes: Nodes) -> None:
        owner, _ = await nodes.member("ann", "a")
        engine, recorder = await nodes.member("bob", "a")
        bob, _ = recorder.members.pop("bob")
        await engine.disconnect(bob, ["a"])
        await engine.collect()
        claim = await engine.cluster.claim("ann", orphan=False, request_release=at_once)
        assert claim is not None
        await engine.collect()
        recorder.members["ann"] = (claim.member, set(claim.channels))
        await owner.publish([message("m1")])
        await soon(lambda: received(recorder) == ["m1"])

    with_one_shard(life)


async def ask(link: Link) -> None:
    await link.command("PING")


async def subscribe(link: Link) -> None:
    await link.subscription.unsubscribe(["c:a"])


@pytest.mark.parametrize("use", [ask, subscribe])
def test_a_write_to_what_has_just_been_closed_is_no_fault(
    with_one_shard: Any, caplog: pytest.LogCaptureFixture, use: Callable[[Link], Awaitable[None]]
) -> None:
    """The loop refuses it before the reader is informed of the end: the link is broken, as where the reader is first."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.member("ann", "a")
        link = link_of(engine)
        # Begun in this turn and in the next one: which of them writes to a closed transport depends on the steps to there.
        before = asyncio.ensure_future(use(link))
        for connection in (link._commands, link.subscription._connection):
            transport: Any = connection._writer.transport  # type: ignore[union-attr]
            transport.abort()
        for asking in (before, asyncio.ensure_future(use(link))):
            with suppress(Unavailable):
                await asking
        await published(engine, message("m1"))

    with_one_shard(life, run=uvloop.run)
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.exc_info]
