"""The Redis engine: the shared suite over a real Redis, and tests of this engine alone."""

import asyncio
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from tests.engines.conformance import *  # noqa: F403
from tests.engines.conformance import EMPTY, MakeEngine, Recorder, Settle, Setup, delete, edit, message, uuids
from tests.engines.conformance.nodes import *  # noqa: F403
from tests.engines.conformance.nodes import at_once, received
from tests.redis_server import RedisServer, free_ports, redis_cluster
from tests.stoppable_line import StoppableLine
from tests.waiting import PATIENCE_S, soon

from channelstream.clock import new_epoch
from channelstream.core.client_protocol import ClientProtocol
from channelstream.core.events import Event, Message, Presence, UserStateChanged
from channelstream.core.log import PRIVATE, Entry
from channelstream.core.position import Position, shard_of
from channelstream.core.registry import RegistryLimits
from channelstream.core.user import UserUpdate
from channelstream.engines.base import Engine
from channelstream.engines.local_log import Lifetimes
from channelstream.engines.members import Leaving, Member
from channelstream.engines.redis import codec
from channelstream.engines.redis import engine as engine_module
from channelstream.engines.redis import shard_recovery as shard_recovery_module
from channelstream.engines.redis.address import ShardAddress, prefixes, shard_addresses
from channelstream.engines.redis.engine import RedisEngine
from channelstream.engines.redis.event_parts import parts_of
from channelstream.engines.redis.lease_manager import MAX_HEARTBEATS
from channelstream.engines.redis.link import Link, script
from channelstream.engines.redis.link_state import NOT_REDIS
from channelstream.engines.redis.link_subscription import Subscription
from channelstream.engines.redis.ownership import Owner
from channelstream.engines.redis.shard_client import AGAIN, CHUNK
from channelstream.engines.redis.shard_state import RedisSettings
from channelstream.errors import ConfigError, Unavailable
from channelstream.wire.channelstream import SEED, V07

[PREFIX] = prefixes(1)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for all tests of this module; each begins with an empty one."""
    server = RedisServer(tmp_path_factory.mktemp("redis"), "--save", "")
    server.start()
    yield server
    server.kill()


def in_shards(address: str, shards: int) -> list[ShardAddress]:
    """Return the places of a log of so many shards, all in one Redis."""
    [place] = shard_addresses(address)
    return [replace(place, prefix=prefix) for prefix in prefixes(shards)]


@pytest.fixture
def all_beside(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every payload lies beside its record; in the end Redis has those that a record has, and no other."""
    monkeypatch.setattr(codec, "BIG_BYTES", 1)
    yield
    for kind in ("c", "u", "h"):
        names = {
            key.removeprefix(PREFIX)[3:]
            for part in "pq"
            for key in redis.cli("KEYS", f"{PREFIX}{kind}{part}:*").split()
        }
        for name in names:
            check_payloads(redis, kind, name)


def check_payloads(redis: RedisServer, kind: str, name: str) -> None:
    """Every payload of a log or a history is that of as many entries as are counted, and these exist."""
    owners, counts = {}, {}
    flat = iter(redis.cli("HGETALL", f"{PREFIX}{kind}q:{name}").split("\n"))
    for field, value in zip(flat, flat, strict=True):
        if field.startswith("@"):
            owners[field[1:]] = value
        else:
            counts[field] = int(value)
    assert Counter(owners.values()) == counts
    assert set(redis.cli("HKEYS", f"{PREFIX}{kind}p:{name}").split()) == set(counts)
    assert set(owners) <= set(redis.cli("HKEYS", f"{PREFIX}{kind}r:{name}").split())


@pytest.fixture(params=[1, 2, 5, "beside"], ids="{}-shards".format)
def make_engine(redis: RedisServer, request: pytest.FixtureRequest) -> MakeEngine:
    redis.cli("FLUSHALL")
    shards = 1 if request.param == "beside" else request.param
    if request.param == "beside":
        request.getfixturevalue("all_beside")

    def make(setup: Setup) -> RedisEngine:
        return RedisEngine(
            in_shards(redis.address, shards),
            setup.limits,
            Lifetimes(setup.users_s, setup.channels_s),
            lambda: str(uuid4()),
            new_epoch,
            "the node's label",
            RedisSettings(),
            setup.clock,
        )

    return make


@pytest.fixture
def settle() -> Settle:
    """A replay returns when everything before it was delivered."""

    async def delivered(engine: Engine) -> None:
        await engine.replay("nobody", {}, 0)

    return delivered


# -- several nodes, and faults


SHORT_S = 2.0
"""How long a node waits for Redis where a test makes it wait in vain."""


class Nodes:
    """Several engines on one Redis, in one loop; each has its recorder."""

    def __init__(self, where: list[ShardAddress], timeout_s: float = 5.0, lease_s: float = 1.0) -> None:
        self.shards = len(where)
        self.settings = RedisSettings(timeout_s, lease_s)
        self._places = where
        self._engines: list[RedisEngine] = []

    def make(self) -> RedisEngine:
        """Make one that is not started."""
        return RedisEngine(
            self._places,
            RegistryLimits(),
            Lifetimes(),
            lambda: str(uuid4()),
            new_epoch,
            f"node {len(self._engines)}",
            self.settings,
        )

    async def node(self) -> tuple[RedisEngine, Recorder]:
        """Start one more."""
        engine = self.make()
        recorder = Recorder()
        engine.cluster.serve(recorder)
        await engine.start(recorder)
        self._engines.append(engine)
        return engine, recorder

    async def member(
        self, conn_id: str, *channels: str, protocol: ClientProtocol = V07, **settings: Any
    ) -> tuple[RedisEngine, Recorder]:
        """Start one more that holds a connection, whose user is called like it."""
        engine, recorder = await self.node()
        member = Member(conn_id, conn_id, protocol)
        recorder.members[conn_id] = (member, set(channels))
        assert await engine.connect(member, EMPTY) is not None
        await engine.join(member, dict.fromkeys(channels, settings))
        return engine, recorder

    async def close(self) -> None:
        for engine in self._engines:
            await engine.close()


async def published(engine: RedisEngine, event: Event) -> None:
    """Publish, again while Redis is out of reach, as an application does."""

    async def is_accepted() -> bool:
        try:
            await engine.publish([event])
        except Unavailable:
            return False
        return True

    await soon(is_accepted)


async def counted(engine: RedisEngine, channels: dict[str, dict[str, int]]) -> None:
    """Wait until these channels have these users, each with so many connections."""

    async def are_members() -> bool:
        return {each.name: each.users for each in await engine.channels(list(channels))} == channels

    await soon(are_members)


def cut(engine: RedisEngine) -> None:
    """Break the links of a node with every shard."""
    for shard in engine._shards:
        assert shard.client._link is not None
        shard.client._link.abandon("the test cuts it")


Life = Callable[[Nodes], Coroutine[Any, Any, None]]
LifeOnALine = Callable[[StoppableLine, Nodes, Nodes], Coroutine[Any, Any, None]]


def run_on(redis: RedisServer, shards: int, test: Life, timeout_s: float = 5.0, lease_s: float = 1.0) -> None:
    """Run a test's coroutine with nodes on an empty Redis; a timeout is shorter only where the test waits for it.

    Args:
        lease_s: longer where beats, and what they set right, are to come too late.
    """

    async def life() -> None:
        nodes = Nodes(in_shards(redis.address, shards), timeout_s, lease_s)
        try:
            await test(nodes)
        finally:
            await nodes.close()

    redis.cli("FLUSHALL")
    asyncio.run(life())


@pytest.fixture(params=[1, 3], ids="{}-shards".format)
def with_nodes(redis: RedisServer, request: pytest.FixtureRequest) -> Callable[..., None]:
    """Run a test with nodes on a log of one shard, and on one of three."""
    return lambda test, **more: run_on(redis, request.param, test, **more)


@pytest.fixture
def with_one_shard(redis: RedisServer) -> Callable[..., None]:
    return lambda test, **more: run_on(redis, 1, test, **more)


@pytest.fixture
def with_three_shards(redis: RedisServer) -> Callable[..., None]:
    return lambda test, **more: run_on(redis, 3, test, **more)


def test_a_dropped_subscription_is_healed_in_order(redis: RedisServer, with_nodes: Any) -> None:
    """Events published while a node was cut off are delivered once, and in each channel before newer ones."""

    async def life(nodes: Nodes) -> None:
        _, listener = await nodes.member("ann", "a", "b")
        speaker, _ = await nodes.node()
        for number in range(50):
            await published(speaker, message(f"m{number}", channel="ab"[number % 2]))
            if number % 10 == 5:
                redis.cli("CLIENT", "KILL", "TYPE", "pubsub")
        await soon(lambda: len(received(listener)) >= 50)
        delivered = received(listener)
        for parity in (
            0,
            1,
        ):  # Each channel may lie in a shard of its own, and shards have no order among them.
            expected = [f"m{number}" for number in range(parity, 50, 2)]
            assert [uuid for uuid in delivered if int(uuid[1:]) % 2 == parity] == expected
        assert len(delivered) == 50
        assert listener.gaps == []

    with_nodes(life)


def test_entries_no_longer_in_the_log_are_reported_lost(with_nodes: Any) -> None:
    """A channel that cannot be healed is lost, and later events are delivered."""

    async def life(nodes: Nodes) -> None:
        engine, listener = await nodes.member("ann", "a", log_events=2)
        speaker, _ = await nodes.node()
        cut(engine)
        # Sent in this turn of the loop; the way back takes several.
        await speaker.publish([message(f"m{number}") for number in range(5)])
        await soon(lambda: bool(listener.gaps))
        assert (listener.gaps, received(listener)) == ([(["a"], [])], [])

    with_nodes(life)


@pytest.mark.parametrize(("kind", "place"), [("c", {}), ("u", {"channel": None, "only": frozenset({"ann"})})])
def test_a_log_that_expired_stays_lost_when_it_is_used_again(
    redis: RedisServer, with_one_shard: Any, kind: str, place: dict[str, Any]
) -> None:
    """The stream of the log is a new one then, and only the floor shows that an older one expired."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.member("ann", "a")
        name = "a" if kind == "c" else "ann"
        lost = {"a"} if kind == "c" else {PRIVATE}
        channels = {"a": 0} if kind == "c" else {PRIVATE: 0}
        await engine.publish([message("m1", **place)])
        redis.cli("DEL", *(f"{PREFIX}{kind}{part}:{name}" for part in "lrxpq"))
        assert (await engine.replay("ann", channels, 10)).lost == lost
        await engine.publish([message("m2", **place)])
        assert (await engine.replay("ann", channels, 10)).lost == lost
        behind = await engine.replay("ann", dict.fromkeys(channels, 1), 10)
        assert (behind.lost, [each.event.uuid for each in behind.entries]) == (set(), ["m2"])

    with_one_shard(life)


def test_a_message_edited_for_many_users_is_lost_for_the_others(with_one_shard: Any) -> None:
    """A client that resumes from before is sent the loss; one that has had the message misses nothing."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        await engine.configure({"a": {}})
        await engine.publish([message("m0"), message("m1"), message("m2")])
        await engine.publish([edit("m1", only=frozenset(map(str, range(1000))))])
        before = await engine.replay("zoe", {"a": 0}, 3)
        assert (uuids(before), before.lost) == (["m0", "m1", "m2"], frozenset())
        await engine.publish([edit("m1", only=frozenset({"one more"}))])
        assert (await engine.replay("zoe", {"a": 1}, 3)).lost == {"a"}
        after = await engine.replay("zoe", {"a": 2}, 1)
        assert (uuids(after), after.lost) == (["m2"], frozenset())

    with_one_shard(life)


def test_a_log_of_deleted_messages_is_whole(redis: RedisServer, with_one_shard: Any) -> None:
    """Deletions leave a stream without older entries, which has not expired."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.member("ann", "a")
        await engine.publish([message("m1"), delete("m1")])
        redis.cli("XDEL", f"{PREFIX}cl:a", "2-0")
        await engine.publish([message("m2")])
        replay = await engine.replay("ann", {"a": 0}, 10)
        assert (replay.lost, [each.event.uuid for each in replay.entries]) == (set(), ["m2"])

    with_one_shard(life)


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


@pytest.fixture
def with_a_line(redis: RedisServer) -> Iterator[Callable[..., None]]:
    """Run a test with nodes that reach Redis by a line, and with others."""
    line = StoppableLine(redis.socket)

    async def life(test: LifeOnALine, timeout_s: float = SHORT_S) -> None:
        near = Nodes(shard_addresses(f"redis://127.0.0.1:{line.port}/0"), timeout_s)
        others = Nodes(shard_addresses(redis.address))
        try:
            await test(line, near, others)
        finally:
            line.mend()
            await near.close()
            await others.close()

    redis.cli("FLUSHALL")
    yield lambda test, **more: asyncio.run(life(test, **more))
    line.close()


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


def sent_calls(engine: RedisEngine) -> int:
    """Return how many calls of a node with one shard wait for their answers."""
    [shard] = engine._shards
    assert shard.client._link is not None
    return len(shard.client._link._calls)


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
        assert shard.client._link is not None
        # As if that clock had been an hour ahead until now.
        shard.client._link._clock_offset_ms += 3_600_000.0
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
        [shard] = engine._shards
        link = shard.client._link
        assert link is not None
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
    link: Any = shard.client._link
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
        assert shard.client._link is not None
        found = deadlines(engine, "publish")
        shard.client._link._clock_offset_ms -= 3_600_000.0
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
        [shard] = engine._shards
        link = shard.client._link
        assert link is not None
        line.cut()
        with pytest.raises(Unavailable, match="does not answer"):
            await shard.client.step("head", until_s=asyncio.get_running_loop().time())
        assert not link.broken.is_set()
        line.mend()
        await engine.head()
        assert shard.client._link is link

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


def test_a_lease_is_renewed_while_connections_are_counted_again(redis: RedisServer, with_nodes: Any) -> None:
    """However long that takes; no other node takes this one for dead."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.member("ann", "a")
        let_go, restoring, restore = asyncio.Event(), asyncio.Event(), engine.cluster._restoring.restore

        async def slow(conn_id: str, shard: Any) -> None:
            restoring.set()
            await let_go.wait()
            await restore(conn_id, shard)

        def beaten_ms(engine: RedisEngine) -> int:
            return int(redis.cli("HGET", f"{PREFIX}n:{engine.cluster._registrar.node}", "beat") or 0)

        engine.cluster._restoring.restore = slow  # type: ignore[method-assign]
        redis.cli("FLUSHALL")
        await restoring.wait()
        for _ in range(7):  # More than two leases.
            before = beaten_ms(engine)
            await soon(lambda: beaten_ms(engine) > before)  # noqa: B023
        let_go.set()
        await counted(engine, {"a": {"ann": 1}})

    with_nodes(life)


def test_a_heartbeat_is_never_refused_for_a_full_queue(
    with_one_shard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise other nodes would take a busy one for dead."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        [lease_manager] = engine._lease_managers
        monkeypatch.setattr("channelstream.engines.redis.link.MAX_CALLS", 0)
        with pytest.raises(Unavailable, match="Too much waits"):
            await engine.publish([message("m1")])
        await lease_manager._heartbeat()

    with_one_shard(life)


def test_heartbeats_do_not_pile_up_before_a_slow_redis(redis: RedisServer, with_a_line: Any) -> None:
    """Three may wait; each of them renews the lease when Redis comes to it."""

    async def life(line: StoppableLine, near: Nodes, others: Nodes) -> None:
        engine, _ = await near.node()
        [lease_manager] = engine._lease_managers
        lease = f"{PREFIX}nl:{engine.cluster._registrar.node}"
        line.cut()
        for _ in range(20):
            lease_manager._start_heartbeat()
            await asyncio.sleep(0)
        assert sent_calls(engine) <= MAX_HEARTBEATS
        redis.cli("DEL", lease)
        line.mend()
        await soon(lambda: redis.cli("EXISTS", lease) == "1")
        await soon(lambda: not lease_manager._heartbeats)

    with_a_line(life, timeout_s=PATIENCE_S)


def test_the_state_of_a_forgotten_user_is_no_longer_announced(
    redis: RedisServer, with_one_shard: Any
) -> None:
    """The state of a user who is forgotten is not announced in the remaining channels."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.member("ann", *MANY, notify_state=True)
        member, _ = recorder.members.pop("ann")
        [shard] = engine._shards
        update = codec.write_update(UserUpdate({"text": "x" * 30_000}, {}, ["text"]))
        await shard.client.step(
            "update_user", user="ann", update=update, bounds=codec.write_bounds(RegistryLimits())
        )
        await engine.disconnect(member, MANY)
        assert redis.cli("SMEMBERS", f"{PREFIX}telling") == "ann"

        async def is_forgotten() -> bool:
            return bool(await shard.client.step("collect", rules=[("u", 0)], count=100))

        await soon(is_forgotten)
        assert redis.cli("SMEMBERS", f"{PREFIX}telling") == ""

    with_one_shard(life, lease_s=PATIENCE_S)


def test_a_user_without_pending_state_is_dropped_by_a_heartbeat(
    redis: RedisServer, with_one_shard: Any
) -> None:
    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        redis.cli("SADD", f"{PREFIX}telling", "nobody")
        await engine._shards.at("").client.heartbeat(lease_ms=1000, label="", connections=0)
        assert redis.cli("SMEMBERS", f"{PREFIX}telling") == ""

    with_one_shard(life)


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


def test_a_full_redis_is_emptied_by_leaving(redis: RedisServer, with_nodes: Any) -> None:
    """It refuses new data; leases are renewed, connections leave and end, and then there is room again."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.member("ann", "a", notify_presence=True)
        members = [Member(f"k{number}", f"u{number}", V07) for number in range(5)]
        for member in members:
            recorder.members[member.conn_id] = (member, {"a"})
            await engine.connect(member, EMPTY)
            await engine.join(member, {"a": {}})
        # Far less than the members give back, so that all of it has to work in a full one.
        redis.cli("CONFIG", "SET", "maxmemory", "1")
        try:
            with pytest.raises(Unavailable, match="cannot do that now"):
                await engine.publish([message("m1")])
            await engine.leave(members[0], ["a"])
            for member in members:
                del recorder.members[member.conn_id]
                await engine.disconnect(member, ["a"])
            for lease_manager in engine._lease_managers:
                await lease_manager._shard.client.heartbeat(lease_ms=1000, label="", connections=1)
            await engine.collect()
            assert all(shard.is_linked for shard in engine._shards)
        finally:
            redis.cli("CONFIG", "SET", "maxmemory", "0")
        await counted(engine, {"a": {"ann": 1}})
        gone = [entry.event.user for entry in recorder.entries if is_parted(entry)]
        assert sorted(gone) == sorted(member.user for member in members)
        await published(engine, message("m2"))

    with_nodes(life)


def is_parted(entry: Entry) -> bool:
    return isinstance(entry.event, Presence) and not entry.event.joined


MANY = [f"c{number}" for number in range(250)]
"""More channels than one call leaves."""


async def begin_to_end(engine: RedisEngine, conn_id: str) -> None:
    """Make the first of the calls that end a connection in very many channels, and no other."""
    shard = engine._shards.at(conn_id)
    node = engine.cluster._registrar.node
    assert await shard.client.step("disconnect", conn_id=conn_id, node=node) == AGAIN


async def in_many(engine: RedisEngine, recorder: Recorder, user: str) -> Member:
    member = Member("many", user, V07)
    recorder.members["many"] = (member, set(MANY))
    await engine.connect(member, EMPTY)
    await engine.join(member, {name: {} for name in MANY})
    return member


async def users_of(engine: RedisEngine, names: list[str]) -> dict[str, int]:
    """Return how many connections each user has in channels, together."""
    counts: dict[str, int] = {}
    for channel in await engine.channels(names):
        for user, count in channel.users.items():
            counts[user] = counts.get(user, 0) + count
    return counts


def test_an_ending_connection_has_no_owner(with_one_shard: Any) -> None:
    """No node can claim or command it; a new use of its id ends it first, and gets none of its channels."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.node()
        other, others = await nodes.node()
        await in_many(engine, recorder, "ann")
        await begin_to_end(engine, "many")
        del recorder.members["many"]
        assert await other.cluster.ask("many", b"stop") is None
        again = Member("many", "ann", V07)
        others.members["many"] = (again, {"new"})
        assert await other.connect(again, EMPTY) is not None
        await other.join(again, {"new": {}})
        assert await users_of(other, [*MANY, "new"]) == {"ann": 1}

    with_one_shard(life)


def test_an_end_begun_by_one_node_is_completed_by_another(with_one_shard: Any) -> None:
    """Though that node makes no more calls: heartbeats continue it."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.node()
        other, _ = await nodes.node()
        await in_many(engine, recorder, "ann")
        await begin_to_end(engine, "many")
        del recorder.members["many"]
        await engine.close()

        async def is_ended() -> bool:
            return not await users_of(other, MANY)

        await soon(is_ended)

    with_one_shard(life)


@pytest.fixture
def stopped_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """No script ends because of the time it took, as on a Redis whose clock does not move within a script."""
    limits = "SLICE_BYTES, SLICE_US, SLICE_CALLS = 1048576, 5000, 2000"
    assert limits in script()
    patched = script().replace(limits, limits.replace("5000", "1e12"))
    monkeypatch.setattr("channelstream.engines.redis.link.script", lambda: patched)


@pytest.mark.usefixtures("stopped_time")
def test_a_heartbeat_leaves_as_many_channels_as_a_script_may(redis: RedisServer, with_one_shard: Any) -> None:
    """It continues behind the first step of a connection that is ending."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.node()
        await in_many(engine, recorder, "ann")
        await begin_to_end(engine, "many")
        del recorder.members["many"]
        before = int(redis.cli("HLEN", f"{PREFIX}kc:many"))
        await engine._shards.at("").client.heartbeat(lease_ms=PATIENCE_S * 1000, label="", connections=0)
        assert before - int(redis.cli("HLEN", f"{PREFIX}kc:many")) > CHUNK

    with_one_shard(life, lease_s=PATIENCE_S)


def test_a_connection_in_many_channels_is_counted_again_exactly(
    redis: RedisServer, with_one_shard: Any
) -> None:
    """Registrations that Redis has lost are restored, and stale ones are removed."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.node()
        member = await in_many(engine, recorder, "ann")
        await engine.leave(member, MANY[:120])
        await engine.join(member, {f"extra-{number}": {} for number in range(120)})
        await engine.cluster.confirm_ownership("many")
        counted = {channel.name for channel in await engine.channels(None) if channel.users}
        assert counted == set(MANY)

    with_one_shard(life)


def test_a_raised_age_prolongs_the_log(redis: RedisServer, with_one_shard: Any) -> None:
    """Also of a channel without further messages."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        await engine.configure({"a": {"log_age_s": 10.0}})
        await engine.publish([message("m1")])
        await engine.configure({"a": {"log_age_s": 100_000.0}})
        logs = [f"{PREFIX}{kind}:a" for kind in ("cl", "cr", "cx")]
        assert all(int(redis.cli("PTTL", log)) > 90_000_000 for log in logs)

    with_one_shard(life)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (["maxmemory", "1"], "maxmemory"),
        (["min-replicas-to-write", "1"], "NOREPLICAS"),
    ],
)
def test_operations_redis_cannot_do_now_are_refused(
    redis: RedisServer, with_one_shard: Any, limits: list[str], reason: str
) -> None:
    """Where it is full, or lacks the replicas it must have, on whichever version."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        redis.cli("CONFIG", "SET", *limits)
        try:
            if reason not in redis.cli("EVAL", "return redis.call('SET', KEYS[1], 1)", "1", "key"):
                pytest.skip("This Redis lets scripts do it.")  # 6.2.5, as to replicas.
            for event in (message("m1"), big(1)):
                with pytest.raises(Unavailable, match="cannot do that now"):
                    await engine.publish([event])
            assert engine._shards.at("a").is_linked
        finally:
            redis.cli("CONFIG", "SET", limits[0], "0")
        await published(engine, message("m2"))

    with_one_shard(life)


def test_a_master_that_became_a_replica_is_left(redis: RedisServer, with_one_shard: Any) -> None:
    """The node refuses and reconnects, as it must where the address leads to another master meanwhile."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        [shard] = engine._shards
        link = shard.client._link
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
        [shard] = engine._shards
        link = shard.client._link
        assert link is not None
        async with shard.client.replies.expect() as (token, reply):
            to_node = f"{shard._recovery._address.prefix}#n:{shard.client._node.name}"
            await link.command("PUBLISH", to_node, f"newer {token} text")
            await engine.catch_up([0])
            assert not reply.done()
        assert shard.client._link is link
        assert not link.broken.is_set()

    with_one_shard(life)
    assert "unknown kind: b'newer'" in caplog.text


def test_a_message_of_an_unknown_kind_to_all_keeps_the_link(
    with_one_shard: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A newer version may send one, too: it is not taken for a new epoch, and the log is not read again."""

    async def life(nodes: Nodes) -> None:
        engine, listener = await nodes.node()
        [shard] = engine._shards
        link = shard.client._link
        assert link is not None
        await link.command("PUBLISH", f"{shard._recovery._address.prefix}#all", "anything else")
        await engine.catch_up([0])
        assert shard.client._link is link
        assert not link.broken.is_set()
        assert listener.renewals == 0

    with_one_shard(life)
    assert "unknown kind to all nodes: b'anything else'" in caplog.text


def test_a_flushed_redis_has_a_new_epoch(redis: RedisServer, with_nodes: Any) -> None:
    """The node is informed, and registers its connections again."""

    async def life(nodes: Nodes) -> None:
        engine, listener = await nodes.member("ann", "a")
        await engine.publish([message("m1")])
        before = engine.position
        redis.cli("FLUSHALL")
        await soon(lambda: listener.renewals == nodes.shards)
        await published(engine, message("m2"))
        await soon(lambda: "m2" in received(listener))
        assert not set(engine.position.epochs) & set(before.epochs)
        await counted(engine, {"a": {"ann": 1}})

    with_nodes(life)


def test_setting_the_clock_of_redis_refuses_nothing(with_nodes: Any) -> None:
    """However far it jumps: the node reads the clock again."""

    async def life(nodes: Nodes) -> None:
        engine, listener = await nodes.member("ann", "a")
        for number, ahead_ms in enumerate((-3_600_000.0, 3_600_000.0)):
            for shard in engine._shards:
                assert shard.client._link is not None
                shard.client._link._clock_offset_ms += ahead_ms
            await engine.publish([message(f"m{number}")])
            assert all(shard.is_linked for shard in engine._shards)
        await soon(lambda: received(listener) == ["m0", "m1"])

    with_nodes(life)


def test_an_id_that_is_used_again_with_another_protocol_replaces_the_former_one(with_one_shard: Any) -> None:
    """A shard that has missed the end of the former connection no longer counts its audience."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.member("old", "a", protocol=SEED)
        again = Member("old", "old", V07)
        recorder.members["old"] = (again, {"b"})
        await engine._shards.at("b").client.call(
            "join",
            **engine.cluster._registrar.identity(again),
            known=False,
            channels=[("b", {})],
            since=False,
            bounds=engine._bounds,
            blob=await engine._shards.state_for("old", []),
        )
        channels = {each.name: each for each in await engine.channels(["a", "b"])}
        assert [each.always_connections for each in channels.values()] == [0, 0]
        assert [list(channels[name].users) for name in ("a", "b")] == [[], ["old"]]

    with_one_shard(life)


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


@pytest.mark.slow
@pytest.mark.parametrize("has_data", [True, False])
def test_a_restarted_redis_has_a_new_epoch(tmp_path: Path, has_data: bool) -> None:
    """Even with its data: the last acknowledged writes may be missing, so that older positions prove nothing."""

    async def life(server: RedisServer) -> None:
        nodes = Nodes(shard_addresses(server.address), SHORT_S)
        engine, listener = await nodes.member("ann", "a", notify_presence=True)
        before = engine.position
        if has_data:
            server.cli("SAVE")
        await engine.publish([message("m1")])
        server.kill()
        with pytest.raises(Unavailable):
            await engine.publish([message("m2")])
        server.start()
        await soon(lambda: listener.renewals == 1)
        await published(engine, message("m3"))
        await soon(lambda: "m3" in received(listener))
        assert engine.position.epochs != before.epochs
        await nodes.close()

    server = RedisServer(tmp_path, "--save", "")
    server.start()
    asyncio.run(life(server))
    server.kill()


def test_an_unreachable_redis_stops_the_start(tmp_path: Path) -> None:
    """With a sentence that names the option."""

    async def life() -> None:
        with pytest.raises(ConfigError, match="engine: Redis is out of reach"):
            await Nodes(shard_addresses(f"unix://{tmp_path}/nothing")).node()

    asyncio.run(life())


@pytest.mark.slow
def test_a_silent_redis_stops_the_start(tmp_path: Path) -> None:
    """A Redis that accepts and never answers is reported as unreachable."""

    async def life() -> None:
        with pytest.raises(ConfigError, match="engine: Redis is out of reach: no answer in time"):
            await Nodes(shard_addresses(f"unix://{tmp_path}/silent"), SHORT_S).node()

    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(f"{tmp_path}/silent")
        silent.listen()
        asyncio.run(life())


STRANGERS = {
    "HTTP": (b"HTTP/1.1 400 Bad Request\r\n\r\n", NOT_REDIS),
    "answers to nothing": (b"+OK\r\n" * 9, NOT_REDIS),
    "numbers": (b":7\r\n", "no answer in time"),
    "nothing": (b"$-1\r\n", "no answer in time"),
    "errors": (b"-ERR what\r\n", "no answer in time"),
    "no text": (bytes(range(256)), NOT_REDIS),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", STRANGERS)
def test_another_program_on_the_port_of_redis_stops_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """Whatever another program answers, the option is named and nothing is logged with a traceback."""
    answer, reason = STRANGERS[kind]

    class Babbling(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self._transport: Any = transport

        def data_received(self, data: bytes) -> None:
            self._transport.write(answer)

    async def life() -> None:
        loop = asyncio.get_running_loop()
        async with await loop.create_unix_server(Babbling, f"{tmp_path}/stranger"):
            with pytest.raises(ConfigError, match=rf"^engine: Redis .*{reason}"):
                await Nodes(shard_addresses(f"unix://{tmp_path}/stranger"), SHORT_S).node()

    asyncio.run(life())
    assert not [record for record in caplog.records if record.exc_info and record.levelname != "DEBUG"]


def channel_in(shard: int, shards: int) -> str:
    return next(name for name in map("c{}".format, range(100)) if shard_of(name, shards) == shard)


def test_positions_never_decrease(with_three_shards: Any) -> None:
    """Each event a node hands on is of one shard, and the received offsets of the others stay."""

    async def life(nodes: Nodes) -> None:
        channels = [channel_in(shard, 3) for shard in range(3)]
        _, listener = await nodes.member("ann", *channels)
        speaker, _ = await nodes.node()
        events = [message(f"m{number}", channel=channels[number % 3]) for number in range(90)]
        await asyncio.gather(*(speaker.publish([event]) for event in events))
        await soon(lambda: len(received(listener)) == 90)
        offsets = [entry.offsets for entry in listener.entries]
        for before, after in pairwise(offsets):
            assert sum(late > early for early, late in zip(before, after, strict=True)) == 1
        assert {entry.shard for entry in listener.entries} == {0, 1, 2}
        assert str(listener.entries[-1].position) == str(Position(speaker.position.epochs, offsets[-1]))

    with_three_shards(life)


def test_a_state_is_announced_in_channels_of_every_shard(with_three_shards: Any) -> None:
    """In the channels of the user, once for each change, with the public part; presence has it as well."""

    async def life(nodes: Nodes) -> None:
        channels = [channel_in(shard, 3) for shard in range(3)]
        engine, listener = await nodes.member("ann", *channels, notify_state=True, notify_presence=True)
        for mood in (1, 2):
            await engine.update_user("ann", UserUpdate({"mood": mood, "secret": mood}, {}, ["mood"]))
        await soon(lambda: len(state_events(listener)) == 6)
        assert sorted(state_events(listener)) == sorted((name, n) for name in channels for n in (1, 2))
        [user] = await engine.users(["ann"])
        assert (user.channels, user.state) == (set(channels), {"mood": 2, "secret": 2})
        await engine.update_user("ann", UserUpdate({"mood": None}, {}))
        await soon(lambda: sorted(state_events(listener)[6:]) == sorted((name, None) for name in channels))
        listener.entries.clear()
        other, _ = await nodes.member("ann2", channels[1])
        member = Member("again", "ann", V07)
        assert await other.connect(member, UserUpdate({"mood": 3}, {})) is not None
        await soon(lambda: len(state_events(listener)) == 3)
        for name in channels:
            await engine.leave(Member("ann", "ann", V07), [name])
        await other.join(member, {channels[2]: {}})
        joined = [each for each in map(event_of, listener.entries) if isinstance(each, Presence)]
        await soon(lambda: last_joined(listener, channels[2]) == {"mood": 3})
        assert joined

    with_three_shards(life)


def event_of(entry: Entry) -> Event:
    return entry.event


def test_a_node_keeps_up_with_the_state_it_announces(redis: RedisServer, with_one_shard: Any) -> None:
    """However many megabytes a state is in all channels together: Redis does not drop the subscription."""

    async def life(nodes: Nodes) -> None:
        names = [f"c{number}" for number in range(200)]
        engine, recorder = await nodes.member("ann", *names, notify_state=True)
        [shard] = engine._shards
        link = shard.client._link
        redis.cli("CONFIG", "SET", "client-output-buffer-limit", "pubsub 4mb 0 0")
        try:
            keys = [f"key-{number}" for number in range(60)]
            await engine.update_user("ann", UserUpdate(dict.fromkeys(keys, "y" * 1000), {}, keys))
        finally:
            redis.cli("CONFIG", "SET", "client-output-buffer-limit", "pubsub 32mb 8mb 60")
        await soon(
            lambda: sum(isinstance(entry.event, UserStateChanged) for entry in recorder.entries) == 200
        )
        assert shard.client._link is link

    with_one_shard(life)


@pytest.mark.parametrize("way", ["call", "restore", "follow"])
def test_a_state_is_announced_no_faster_than_its_node_receives(with_one_shard: Any, way: str) -> None:
    """A caller that finds a state half announced continues with it step by step, each when the last was received."""

    async def life(nodes: Nodes) -> None:
        names = [f"c{number}" for number in range(200)]
        engine, _ = await nodes.member("ann", *names, notify_state=True)
        [shard] = engine._shards
        keys = [f"key-{number}" for number in range(60)]
        update = UserUpdate(dict.fromkeys(keys, "y" * 1000), {}, keys)
        shard.client.send_paced = unfinished  # type: ignore[method-assign]
        await engine.update_user("ann", update)
        del shard.client.send_paced  # type: ignore[attr-defined]
        order = answers_and_marks(shard)
        if way == "call":
            await engine.update_user("ann", UserUpdate({"mood": 1}, {}))
        elif way == "restore":
            await engine.cluster._restoring.restore("ann", shard)
        else:
            shard.pending_state.add("ann")
            await engine.cluster._restoring.send_states(shard)
            assert not shard.pending_state
        steps = "".join(order)
        assert steps.count("again") >= 2
        assert steps.count("again") == steps.count("again-received ")

    with_one_shard(life, timeout_s=PATIENCE_S, lease_s=600.0)


async def unfinished(operation: str, **arguments: Any) -> None:
    """The caller that had to announce a state has gone before it did."""


def answers_and_marks(shard: Any) -> list[str]:
    """Record from now on that a step has more to do, and that events before a mark were received."""
    order: list[str] = []
    call, marked = shard.client.call_on, shard.client._link.subscription.await_mark

    async def recorded(*about: Any, **arguments: Any) -> Any:
        answer = await call(*about, **arguments)
        if answer == AGAIN:
            order.append("again")
        return answer

    async def received(*about: Any) -> None:
        await marked(*about)
        order.append("-received ")

    shard.client.call_on, shard.client._link.subscription.await_mark = recorded, received
    return order


def state_events(recorder: Recorder) -> list[tuple[str, Any]]:
    events = [each for each in map(event_of, recorder.entries) if isinstance(each, UserStateChanged)]
    return [(str(each.channel), value) for each in events for _, value in each.changed]


def last_joined(recorder: Recorder, channel: str) -> Any:
    events = [each for each in map(event_of, recorder.entries) if isinstance(each, Presence)]
    return next((each.state for each in reversed(events) if each.joined and each.channel == channel), None)


def test_a_private_message_to_users_of_many_shards_reaches_each_once(with_three_shards: Any) -> None:
    """And a repetition is recognized."""

    async def life(nodes: Nodes) -> None:
        users = [channel_in(shard, 3) for shard in range(3)]
        recorders = [(await nodes.member(user))[1] for user in users]
        speaker, _ = await nodes.node()
        event = message("p1", channel=None, only=frozenset(users))
        [first] = await speaker.publish([event])
        [again] = await speaker.publish([event])
        assert (first.duplicate, again.duplicate) == (False, True)
        for user, recorder in zip(users, recorders, strict=True):
            await soon(lambda recorder=recorder: len(recorder.entries) == 1)  # type: ignore[misc]
            assert recorder.entries[0].event.only == {user}

    with_three_shards(life)


def test_a_loss_in_one_shard_leaves_the_others(redis: RedisServer, with_three_shards: Any) -> None:
    """Only its epoch changes; its registrations are restored."""

    async def life(nodes: Nodes) -> None:
        channels = [channel_in(shard, 3) for shard in range(3)]
        engine, listener = await nodes.member("ann", *channels)
        before = engine.position
        prefix = prefixes(3)[1]
        for key in redis.cli("KEYS", f"{prefix}*").splitlines():
            redis.cli("DEL", key)
        await published(engine, message("m1", channel=channels[1]))
        await soon(lambda: listener.renewals == 1)
        pairs = zip(before.epochs, engine.position.epochs, strict=True)
        assert [old == new for old, new in pairs] == [True, False, True]
        await counted(engine, {name: {"ann": 1} for name in channels})

    with_three_shards(life)


def test_the_connections_of_a_dead_node_are_unregistered_in_every_shard(with_three_shards: Any) -> None:
    """Its users leave once in each channel; connections that a living node has claimed stay."""

    async def life(nodes: Nodes) -> None:
        channels = [channel_in(shard, 3) for shard in range(3)]
        dying, recorder = await nodes.member("ann", *channels)
        bob = Member("bob", "bob", V07)
        recorder.members["bob"] = (bob, set(channels))
        await dying.connect(bob, EMPTY)
        await dying.join(bob, {name: {} for name in channels})
        living, watcher = await nodes.member("eve", *channels, notify_presence=True)
        await living.configure({name: {"notify_presence": True} for name in channels})
        await dying.close()
        claim = await living.cluster.claim("bob", orphan=False, request_release=at_once)
        assert claim is not None
        assert set(claim.channels) == set(channels)
        watcher.members["bob"] = (claim.member, set(claim.channels))
        await soon(lambda: len(parted(watcher)) == 3)
        assert sorted(parted(watcher)) == sorted(("ann", name) for name in channels)
        for channel in await living.channels(channels):
            assert channel.users == {"bob": 1, "eve": 1}
        assert [user.connections for user in await living.users(["ann", "bob", "eve"])] == [0, 1, 1]

    with_three_shards(life)


def parted(recorder: Recorder) -> list[tuple[str, str]]:
    events = [each for each in map(event_of, recorder.entries) if isinstance(each, Presence)]
    return [(each.user, str(each.channel)) for each in events if not each.joined]


def test_nodes_are_listed_with_their_last_heartbeats(with_nodes: Any) -> None:
    """Each with its number of connections; a dead one until these are unregistered."""

    async def life(nodes: Nodes) -> None:
        dying, _ = await nodes.member("ann", "a")
        living, _ = await nodes.node()

        async def listed() -> list[tuple[str, int, bool]]:
            return sorted(
                (each.label, each.connections, each.is_alive) for each in await living.cluster.nodes()
            )

        async def are(*nodes: tuple[str, int, bool]) -> bool:
            return await listed() == list(nodes)

        await soon(lambda: are(("node 0", 1, True), ("node 1", 0, True)))
        assert all(abs(each.heartbeat_s - time.time()) < PATIENCE_S for each in await living.cluster.nodes())
        await dying.close()
        await soon(lambda: are(("node 1", 0, True)))

    with_nodes(life)


def test_another_number_of_shards_is_refused(redis: RedisServer, with_three_shards: Any) -> None:
    """Nodes with different numbers of shards would miss each other's events."""

    async def life(nodes: Nodes) -> None:
        await nodes.node()
        with pytest.raises(
            ConfigError, match=r"another number of shards than the 2 of the address: this is shard 1 of 3"
        ):
            await Nodes(in_shards(redis.address, 2)).node()

    with_three_shards(life)


def test_a_refused_start_leaves_no_connection_open(redis: RedisServer, with_one_shard: Any) -> None:
    """To none of the shards that could be reached."""

    async def life(_nodes: Nodes) -> None:
        [port] = free_ports(1)
        [nowhere] = shard_addresses(f"redis://127.0.0.1:{port}")
        here, there = in_shards(redis.address, 2)
        with pytest.raises(ConfigError):
            await Nodes([here, replace(nowhere, prefix=there.prefix)]).make().start(Recorder())
        await soon(lambda: len(redis.cli("CLIENT", "LIST").strip().splitlines()) == 1)  # That of this call.

    with_one_shard(life)


@pytest.mark.slow
def test_a_cluster_of_three_masters_shares_the_log(tmp_path: Path) -> None:
    """Each has a shard and publishes only to those who listen there; the address gives the number."""

    async def life(cluster: str, masters: list[RedisServer]) -> None:
        nodes = Nodes(shard_addresses(cluster))
        channels = [channel_in(shard, 3) for shard in range(3)]
        _, listener = await nodes.member("ann", *channels, notify_presence=True)
        speaker, _ = await nodes.node()
        private = message("p", channel=None, only=frozenset({"ann"}))
        await speaker.publish([*(big(name, channel=name) for name in channels), private])
        await soon(lambda: sorted(received(listener)) == sorted(["p", *map("m{}".format, channels)]))
        starts = dict.fromkeys(channels, 0)
        assert len((await speaker.replay("ann", starts, 100)).entries) == 6
        if masters[0].cli("PUBSUB", "SHARDNUMSUB") == "":  # Redis 6.2 has no sharded publish.
            for master in masters:
                assert master.cli("PUBSUB", "SHARDCHANNELS", "*#c:*").count("#c:") == 1
                assert master.cli("PUBSUB", "CHANNELS") == ""
        await nodes.close()

    with redis_cluster(tmp_path, 3) as masters:
        members = ",".join(f"127.0.0.1:{master.port}" for master in masters)
        asyncio.run(life(f"redis+cluster://{members}", masters))


def test_data_of_another_format_stops_the_start(redis: RedisServer) -> None:
    """With a sentence that says what to do: misread, old texts would be lost, and deleted ones kept."""

    redis.cli("FLUSHALL")

    async def life() -> None:
        nodes = Nodes(shard_addresses(redis.address))
        await nodes.node()
        await nodes.close()
        [log] = redis.cli("KEYS", "*:log").split()
        redis.cli("HDEL", log, "layout")
        with pytest.raises(ConfigError, match=r"has format 1, .* stop all nodes, run FLUSHDB"):
            await Nodes(shard_addresses(redis.address)).node()
        redis.cli("DEL", log)

    asyncio.run(life())


def test_a_link_is_closed_though_its_close_was_cancelled(redis: RedisServer, with_one_shard: Any) -> None:
    """As happens where the engine is closed while Redis is out of reach."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.member("ann", "a")
        [shard] = engine._shards
        link = shard.client._link
        assert link is not None
        letting_go = asyncio.create_task(shard.client.unlink())
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
        [shard] = engine._shards
        link = shard.client._link
        assert link is not None
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
        [shard] = engine._shards
        link = shard.client._link
        assert link is not None
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


def test_a_bug_about_one_connection_does_not_stop_the_others(
    with_one_shard: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged, and the groups behind it are unregistered."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.node()
        members = [Member(f"k{number}", "ann", V07) for number in range(3)]
        for member in members:
            recorder.members[member.conn_id] = (member, {"a"})
            await engine.connect(member, EMPTY)
            await engine.join(member, {"a": {}})
        disconnect = engine._connections.disconnect

        async def failing(member: Member, channels: Any) -> None:
            if member.conn_id == "k0":
                raise KeyError("a bug")
            await disconnect(member, channels)

        monkeypatch.setattr(engine._connections, "disconnect", failing)
        monkeypatch.setattr(engine_module, "LEAVING_AT_ONCE", 1)
        await engine.disconnect_all([Leaving(member, ["a"]) for member in members])
        assert await users_of(engine, ["a"]) == {"ann": 1}

    with_one_shard(life, timeout_s=PATIENCE_S, lease_s=600.0)
    assert "a connection could not be unregistered" in caplog.text


BIG = 300_000
READ_BYTES = 1 << 20
"""Bytes of entries after which one call of the script ends."""


def big(number: int | str, **rest: Any) -> Message:
    return msgspec.structs.replace(message(f"m{number}"), payload=b'"%b"' % (b"x" * BIG), **rest)


COMMANDS = 2_100
"""Most commands of one script: 2,000, and those of the current step."""


def commands(redis: RedisServer) -> tuple[int, int]:
    """How many commands there were, and how many scripts."""
    lines = redis.cli("INFO", "commandstats").splitlines()
    calls = {
        line.partition(":")[0]: int(line.partition("calls=")[2].partition(",")[0])
        for line in lines
        if "calls=" in line
    }
    scripts = calls.get("cmdstat_evalsha", 0)
    return sum(calls.values()) - scripts, scripts


async def for_each_script(redis: RedisServer, work: Awaitable[Any]) -> float:
    """Do it, and return how many commands its scripts had on average, heartbeats included."""
    before = commands(redis)
    await work
    after = commands(redis)
    return (after[0] - before[0]) / (after[1] - before[1])


async def at_most_in_a_script(redis: RedisServer, engine: RedisEngine, work: Awaitable[Any]) -> int:
    """Do it, and return how many commands the longest of its scripts had."""
    [shard] = engine._shards
    step, most = shard.client.step, 0

    async def counted_step(operation: str, **arguments: Any) -> Any:
        nonlocal most
        before = commands(redis)
        answer = await step(operation, **arguments)
        most = max(most, commands(redis)[0] - before[0])
        return answer

    shard.client.step = counted_step  # type: ignore[method-assign]
    await work
    return most


@pytest.mark.usefixtures("stopped_time")
def test_a_script_stops_at_a_number_of_commands(
    redis: RedisServer, with_one_shard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the clock does not move within a script, as from Redis 7.2 on, nothing else bounds it."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.member("ann", "a")
        names = [f"many-{number}" for number in range(2_000)]
        join = engine.join(Member("ann", "ann", V07), {name: {} for name in names})
        assert await at_most_in_a_script(redis, engine, join) <= COMMANDS

    # A call that names as many as the engine's own does ends before.
    monkeypatch.setattr("channelstream.engines.redis.connections.CHUNK", 1_000)
    with_one_shard(life, lease_s=PATIENCE_S)


async def enter(node: tuple[RedisEngine, Recorder], name: str, channel: str, state: dict[str, Any]) -> None:
    """Have a node hold one more connection, of a user with this state, all of it public."""
    engine, recorder = node
    member = Member(name, name, V07)
    recorder.members[name] = (member, {channel})
    await engine.connect(member, UserUpdate(state, {}, list(state)))
    await engine.join(member, {channel: {}})


def test_answers_about_many_users_are_bounded_in_bytes(with_one_shard: Any) -> None:
    """However big their states are: a script answers as many as fit, and the next one continues."""

    async def life(nodes: Nodes) -> None:
        node = engine, _ = await nodes.node()
        users = [f"u{number}" for number in range(30)]
        for user in users:
            await enter(node, user, "a", {"big": "x" * 60_000})
        sizes = sent_to_scripts(engine)
        reported = await engine.states(dict.fromkeys(users, "a"))
        found = await engine.users(users)
        assert [len(str(each.state["big"])) for each in (*reported, *found)] == [60_000] * 60
        assert max(sizes) < READ_BYTES // 2

    with_one_shard(life)


def test_a_list_of_users_costs_a_script_one_lookup_each(redis: RedisServer, with_one_shard: Any) -> None:
    """However many keys of their states are public: the public state of a user is built when it changes."""

    async def life(nodes: Nodes) -> None:
        settings = {"notify_presence": True, "broadcast_presence_with_user_lists": True}
        node = engine, recorder = await nodes.member("ann", "a", **settings)
        state = {f"key-{number}": number for number in range(40)}
        users = [f"u{number}" for number in range(100)]
        for user in users:
            await enter(node, user, "a", state)
        recorder.members["u0"][1].clear()
        leave = engine.leave(Member("u0", "u0", V07), ["a"])
        assert await for_each_script(redis, leave) < 200
        await soon(lambda: recorder.entries and not recorder.entries[-1].event.joined)
        listed = dict(recorder.entries[-1].event.users)
        assert listed == {"ann": {}} | dict.fromkeys(users[1:], state)

    with_one_shard(life, lease_s=PATIENCE_S)


def test_a_list_of_users_is_bounded_in_bytes(with_one_shard: Any) -> None:
    """A channel whose members have big public states announces them without a list."""

    async def life(nodes: Nodes) -> None:
        settings = {"notify_presence": True, "broadcast_presence_with_user_lists": True}
        node = _, recorder = await nodes.member("ann", "a", **settings)
        for number in range(7):
            await enter(node, f"u{number}", "a", {"big": "x" * 50_000})
        await soon(lambda: len(recorder.entries) >= 8)
        lists = [(len(each.users), each.users_cut) for each in map(event_of, recorder.entries)]
        assert lists == [*((number, False) for number in range(1, 4)), *[(0, True)] * 5]

    with_one_shard(life)


def test_a_state_is_announced_without_a_copy_of_the_channels(redis: RedisServer, with_one_shard: Any) -> None:
    """A change is announced page by page; a channel that is joined or changed meanwhile gets it once."""

    async def life(nodes: Nodes) -> None:
        names = [f"c{number}" for number in range(1500)]
        engine, recorder = await nodes.member("ann", *names, notify_state=True)
        [shard] = engine._shards
        marked, copies = shard.client._await_published, []

        async def between(*about: Any) -> Any:
            keys = redis.cli("KEYS", f"{PREFIX}u?:ann").split()
            copies.append([key for key in keys if int(redis.cli("HLEN", key)) > 100])
            return await marked(*about)

        shard.client._await_published = between  # type: ignore[method-assign]
        keys = {f"key-{number}": "y" * 900 for number in range(5)}
        await engine.update_user("ann", UserUpdate(keys, {}, list(keys)))
        await soon(lambda: len(state_events(recorder)) >= 5 * 1500)
        assert Counter(state_events(recorder)) == Counter((name, "y" * 900) for name in names * 5)
        assert copies
        assert all(each == [f"{PREFIX}uc:ann"] for each in copies)
        recorder.members["ann"][1].add("late")
        await engine.join(Member("ann", "ann", V07), {"late": {"notify_state": True}})
        await engine.update_user("ann", UserUpdate({"key-0": "z"}, {}))
        await soon(lambda: len(state_events(recorder)) >= 5 * 1500 + 1501)
        assert Counter(state_events(recorder)[5 * 1500 :]) == Counter(
            (name, "z") for name in [*names, "late"]
        )

    with_one_shard(life)


def test_changes_of_one_message_for_many_users_are_bounded(redis: RedisServer, with_one_shard: Any) -> None:
    """A log keeps some hundred forms of a message; a client that needs an older one is sent the loss."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        await engine.configure({"a": {"log_events": 10_000}})
        await engine.publish([message("m1")])
        changes = [replaced_for(edit("m1", b'"%d"' % number), f"u{number}") for number in range(600)]
        await engine.publish(changes[:-1])
        assert await for_each_script(redis, engine.publish(changes[-1:])) < 700
        assert int(redis.cli("XLEN", f"{PREFIX}cl:a")) <= 502
        replay = await engine.replay("ann", {"a": 1}, 10)
        assert replay.lost == {"a"}
        behind = await engine.replay("ann", {"a": 598}, 10)
        assert [entry.event for entry in behind.entries] == changes[-3:]
        # The message is still known, and taken back for all of them at once.
        [again] = await engine.publish([message("m1", only=frozenset({"u1"}))])
        assert again.duplicate
        await engine.publish([delete("m1")])
        assert int(redis.cli("XLEN", f"{PREFIX}cl:a")) == 1

    with_one_shard(life, lease_s=PATIENCE_S)


def test_a_gap_within_a_log_stays_when_older_entries_are_dropped(
    redis: RedisServer, with_one_shard: Any
) -> None:
    """The floor of a log never goes back."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        await engine.configure({"a": {"log_events": 10_000}})
        changes = [replaced_for(edit("m1", b'"%d"' % number), f"u{number}") for number in range(600)]
        await engine.publish([message("m1"), *changes])
        kept = int(redis.cli("XLEN", f"{PREFIX}cl:a"))
        assert kept < 600
        await engine.configure({"a": {"log_events": kept}})
        await engine.publish([message("m2")])
        assert redis.cli("XRANGE", f"{PREFIX}cl:a", "-", "50-0") == ""
        assert (await engine.replay("ann", {"a": 50}, 10)).lost == {"a"}

    with_one_shard(life)


def replaced_for(event: Event, *users: str) -> Event:
    return msgspec.structs.replace(event, only=frozenset(users))


def test_logs_that_follow_one_another_are_read_in_few_steps(redis: RedisServer, with_one_shard: Any) -> None:
    """More is read of the log that is behind, and expired entries are skipped in one step."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        names = [f"c{number}" for number in range(CHUNK)]
        await engine.configure({name: {} for name in names})
        for name in names:
            await engine.publish([message(f"{name}-{number}", channel=name) for number in range(20)])
        at, found, calls = 0, [], 0
        while at < 20 * CHUNK:
            replay = await engine.replay("ann", dict.fromkeys(names, at), 256)
            found += [entry.event.uuid for entry in replay.entries]
            (at,) = replay.read_to
            calls += 1
        assert found == [f"{name}-{number}" for name in names for number in range(20)]
        assert calls <= 20 * CHUNK // 50
        for name in names:
            redis.cli("HSET", f"{PREFIX}c:{name}", "age", "-1")
        commands_each = await for_each_script(redis, engine.replay("ann", dict.fromkeys(names, 0), 256))
        assert commands_each < 3 * CHUNK
        assert (await engine.replay("ann", dict.fromkeys(names, 0), 256)).lost == set(names)

    with_one_shard(life, lease_s=PATIENCE_S)


@pytest.mark.parametrize(
    ("event", "parts"),
    [
        pytest.param(message("m", channel=None), 500, id="short"),
        pytest.param(big("m", channel=None), 3334, id="long"),
        pytest.param(message("m", channel=None, exclude=frozenset({"u1", "x" * 500})), 500, id="excluding"),
        pytest.param(message("m"), 2, id="channel"),
    ],
)
def test_an_event_for_many_users_is_accepted_in_parts(event: Message, parts: int) -> None:
    """For as many as a script can write the text for, whichever users it excludes; each user is in one part."""
    users = frozenset(f"u{number}" for number in range(10_000))
    engine = Nodes(in_shards("redis://127.0.0.1", 1)).make()
    made = [part for _, part in parts_of(msgspec.structs.replace(event, only=users), engine._shards)]
    assert len(made) == parts
    assert sum(len(part.only or ()) for part in made) == len(users)
    assert frozenset[str]().union(*(part.only or () for part in made)) == users
    assert [part.exclude for part in made if part.exclude] == ([frozenset({"u1"})] if event.exclude else [])


def test_a_message_in_a_channel_to_many_users_reaches_each_once(with_one_shard: Any) -> None:
    """It is edited and repeated as one message, and answered with all its users."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.member("ann", "a")
        users = frozenset({*(f"user-{'x' * 100}-{number}" for number in range(1000)), "ann"})
        event = message("m1", only=users)
        [first], [again] = await engine.publish([event]), await engine.publish([event])
        assert (first.duplicate, again.duplicate, again.event) == (False, True, event)
        [edited] = await engine.publish([replaced_for(edit("m1", b'"new"'), *users)])
        assert edited.found
        await soon(lambda: len(recorder.entries) >= 8)
        named = [user for entry in recorder.entries for user in entry.event.only or ()]
        assert Counter(named) == dict.fromkeys(users, 2)
        replay = await engine.replay("ann", {"a": 0}, 100)
        texts = [entry.event.payload for entry in replay.entries if isinstance(entry.event, Message)]
        assert texts == [b'"new"'] * 4

    with_one_shard(life)


@pytest.mark.slow
def test_a_lost_master_of_a_cluster_loses_only_its_shard(tmp_path: Path) -> None:
    """While it is away only calls about its channels are refused; back without data, it has a new epoch."""

    async def life(cluster: str, masters: list[RedisServer]) -> None:
        nodes = Nodes(shard_addresses(cluster), SHORT_S)
        channels = [channel_in(shard, 3) for shard in range(3)]
        engine, listener = await nodes.member("ann", *channels)
        await engine.publish([message("before", channel=name) for name in channels])
        before = engine.position
        away = next(master for master in masters if master.cli("KEYS", f"{prefixes(3)[2]}*"))
        away.kill()
        with pytest.raises(Unavailable):
            await engine.publish([message("m1", channel=channels[2])])
        await engine.publish([message("m1", channel=channels[0]), message("m1", channel=channels[1])])
        # A change that cannot be made whole is not begun.
        more = [
            next(name for name in map("d{}".format, range(100)) if shard_of(name, 3) == n) for n in (0, 2)
        ]
        with pytest.raises(Unavailable):
            await engine.join(Member("ann", "ann", V07), {name: {} for name in more})
        assert not await engine.channels(more[:1])
        away.start()
        await published(engine, message("m2", channel=channels[2]))
        await soon(lambda: received(listener)[-1] == "m2")
        pairs = zip(before.epochs, engine.position.epochs, strict=True)
        assert [old == new for old, new in pairs] == [True, True, False]
        assert received(listener).count("m1") == 2
        await nodes.close()

    with redis_cluster(tmp_path, 3, "--cluster-require-full-coverage", "no") as masters:
        members = ",".join(f"127.0.0.1:{master.port}" for master in masters)
        asyncio.run(life(f"redis+cluster://{members}?shards=3", masters))


def test_a_join_costs_the_same_in_a_full_channel(redis: RedisServer, with_one_shard: Any) -> None:
    """Redis runs the same number of commands, none of which grows with the members."""

    def commands() -> dict[str, int]:
        lines = redis.cli("INFO", "commandstats").splitlines()
        stats = (line.removeprefix("cmdstat_").partition(":calls=") for line in lines if "calls=" in line)
        return {name: int(rest.partition(",")[0]) for name, _, rest in stats}

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.member("first", "a", notify_presence=True)

        async def connected(name: str) -> Member:
            member = Member(name, name, V07)
            recorder.members[name] = (member, {"a"})
            await engine.connect(member, EMPTY)
            return member

        async def join_once(name: str) -> dict[str, int]:
            member = await connected(name)
            before = commands()
            await engine.join(member, {"a": {}})
            after = commands()
            counted = ("hincrby", "hset", "hmget", "xadd", "publish", "hkeys", "hgetall")
            return {name: after.get(name, 0) - before.get(name, 0) for name in counted}

        async def join(name: str) -> dict[str, int]:
            """The least of several: work of the lease manager may fall into one of them."""
            joins = [await join_once(f"{name}-{number}") for number in range(5)]
            return {name: min(each[name] for each in joins) for name in joins[0]}

        early = await join("early")
        for number in range(300):
            await engine.join(await connected(f"m{number}"), {"a": {}})
        assert await join("late") == early
        assert early["hkeys"] == early["hgetall"] == 0

    with_one_shard(life)


def test_healing_costs_little_for_logs_that_missed_nothing(with_one_shard: Any) -> None:
    """Missed entries are read from their own channel, and not repeatedly from all channels of the node."""

    async def life(nodes: Nodes) -> None:
        engine, listener = await nodes.member("ann", "hot", *(f"quiet-{number}" for number in range(1000)))
        speaker, _ = await nodes.node()
        [shard] = engine._shards
        gate, establish, call, calls = asyncio.Event(), shard.establish, shard.client.call_on, 0

        async def later() -> None:
            await gate.wait()
            await establish()

        async def counted(link: Link, operation: str, **arguments: Any) -> Any:
            nonlocal calls
            calls += operation == "replay"
            return await call(link, operation, **arguments)

        shard.establish, shard.client.call_on = later, counted  # type: ignore[method-assign]
        cut(engine)
        await speaker.publish([message(f"m{number}", channel="hot") for number in range(400)])
        gate.set()
        await soon(lambda: len(received(listener)) == 400)
        assert received(listener) == [f"m{number}" for number in range(400)]
        assert calls < 40

    with_one_shard(life)


def sizes_read(shard: Any) -> list[int]:
    """Record from now on how many bytes of entries each read of a shard's log has."""
    sizes: list[int] = []
    read = shard.log.read

    async def recorded(*arguments: Any, **how: Any) -> Any:
        answer = await read(*arguments, **how)
        sizes.append(sum(len(part) for _, _, *parts in answer[3] for part in parts))
        return answer

    shard.log.read = recorded
    return sizes


def test_a_replay_is_bounded_in_bytes(with_one_shard: Any) -> None:
    """One read ends after a mebibyte, returns its end, and the next one continues there."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        await engine.configure({"a": {}})
        await engine.publish([big(number) for number in range(10)])
        sizes = sizes_read(engine._shards.at("a"))
        at, found = 0, []
        while at < (await engine.head()).offsets[0]:
            replay = await engine.replay("ann", {"a": at}, 256)
            assert replay.lost == frozenset()
            found += [entry.event.uuid for entry in replay.entries]
            (at,) = replay.read_to
        assert found == [f"m{number}" for number in range(10)]
        assert 0 < max(sizes) < READ_BYTES + BIG + 1000

    with_one_shard(life)


def test_a_node_that_missed_much_reads_it_in_bounded_steps(with_one_shard: Any) -> None:
    """However many bytes its channels were sent meanwhile, it delivers all of them, in order."""

    async def life(nodes: Nodes) -> None:
        listener, recorder = await nodes.member("ann", "a")
        speaker, _ = await nodes.node()
        [shard] = listener._shards
        sizes, gate, establish = sizes_read(shard), asyncio.Event(), shard.establish

        async def later() -> None:
            await gate.wait()
            await establish()

        shard.establish = later  # type: ignore[method-assign]
        cut(listener)
        for number in range(20):
            await published(speaker, big(number))
        gate.set()
        await soon(lambda: len(received(recorder)) == 20)
        assert received(recorder) == [f"m{number}" for number in range(20)]
        assert recorder.gaps == []
        assert 0 < max(sizes) < READ_BYTES + BIG + 1000

    with_one_shard(life)


def payloads_in_flight(engine: RedisEngine) -> list[int]:
    """Record from now on how many payloads a node waits for, each time it asks for one."""
    counts: list[int] = []
    waiting: set[Any] = set()
    [shard] = engine._shards
    link: Any = shard.client._link
    sent = link._enqueue

    def recorded(parts: Any, reads: bool) -> Any:
        answer = sent(parts, reads)
        if parts[0] == "HGET":
            waiting.add(answer)
            answer.add_done_callback(waiting.discard)
            counts.append(len(waiting))
        return answer

    link._enqueue = recorded
    return counts


def test_big_payloads_of_a_history_are_fetched_a_mebibyte_at_a_time(with_one_shard: Any) -> None:
    """However many there are: only the payloads of one answer are in flight, so that heartbeats do not wait."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        await engine.configure({"a": {"store_history": True, "history_size": 20}})
        await engine.publish([big(number) for number in range(20)])
        counts = payloads_in_flight(engine)
        [channel] = await engine.channels(["a"])
        shown = channel.history.entries
        assert [entry.event.uuid for entry in shown] == [f"m{number}" for number in range(20)]
        assert all(entry.event == big(number) for number, entry in enumerate(shown))
        assert len(counts) == 20
        assert max(counts) <= READ_BYTES // BIG + 1

    with_one_shard(life)


def sent_to_scripts(engine: RedisEngine) -> list[int]:
    """Record from now on how many bytes each script receives, and how many it answers."""
    sizes: list[int] = []
    [shard] = engine._shards
    link: Any = shard.client._link
    sent = link._enqueue

    def recorded(parts: Any, reads: bool) -> Any:
        answer = sent(parts, reads)
        if parts[0] == "EVALSHA":
            sizes.append(sum(len(str(part)) for part in parts))
            answer.add_done_callback(lambda done: sizes.append(len(str(done.result()))))
        return answer

    link._enqueue = recorded
    return sizes


def test_no_script_touches_a_big_payload(with_one_shard: Any) -> None:
    """It is published, edited, shown, read and deleted beside the script, in one order with the small ones."""

    async def life(nodes: Nodes) -> None:
        _, recorder = await nodes.member("ann", "a", store_history=True, history_size=10)
        other, _ = await nodes.node()
        sizes = sent_to_scripts(other)
        await other.publish([message("small-1"), big(1), message("small-2"), big(2), big(3)])
        newer = b'"%b"' % (b"z" * BIG)
        await other.publish([edit("m2", newer), delete("m3")])
        [again] = await other.publish([message("m1")])
        assert (again.event, again.duplicate) == (big(1), True)
        await soon(
            lambda: [type(each).__name__ for each in map(event_of, recorder.entries)][-1] == "MessageDeleted"
        )
        assert received(recorder) == ["small-1", "m1", "small-2", "m2", "m3"]
        assert [entry.event for entry in recorder.entries if entry.event.uuid == "m3"] == [
            big(3),
            delete("m3"),
        ]
        replay = await other.replay("ann", {"a": 0}, 100)
        shown = {
            entry.event.uuid: entry.event.payload
            for entry in replay.entries
            if isinstance(entry.event, Message)
        }
        assert shown == {"small-1": b'"hi"', "small-2": b'"hi"', "m1": big(1).payload, "m2": newer}
        [channel] = await other.channels(["a"])
        assert {entry.event.uuid: entry.event.payload for entry in channel.history.entries} == shown
        assert max(sizes) < BIG // 10

    with_one_shard(life)


def test_a_big_private_message_reaches_each_of_its_users_once(with_nodes: Any) -> None:
    async def life(nodes: Nodes) -> None:
        _, ann = await nodes.member("ann")
        engine, bob = await nodes.member("bob")
        await engine.publish([big(1, channel=None, only=frozenset({"ann", "bob", "eve"}))])
        await soon(lambda: received(ann) == received(bob) == ["m1"])
        assert {entry.event.payload for entry in (*ann.entries, *bob.entries)} == {big(1).payload}

    with_nodes(life)


def test_a_refused_call_leaves_no_payload_behind(redis: RedisServer, with_one_shard: Any) -> None:
    """Neither with a new epoch, a known uuid or an unknown script, nor in an unknown channel."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.member("ann", "a", store_history=True)
        await engine.publish([big(1)])
        kept = redis.cli("HKEYS", f"{PREFIX}cp:a"), redis.cli("HKEYS", f"{PREFIX}hp:a")
        assert (await engine.publish([big(1)]))[0].duplicate
        [shard] = engine._shards
        epoch, shard._state.epoch = shard.epoch, "another"
        with pytest.raises(Unavailable):
            await engine.publish([big(2)])
        shard._state.epoch = epoch
        await published(engine, big(3, channel="unknown"))
        redis.cli("SCRIPT", "FLUSH")
        with pytest.raises(Unavailable):
            await engine.publish([big(4)])
        await published(engine, message("small"))
        assert (redis.cli("HKEYS", f"{PREFIX}cp:a"), redis.cli("HKEYS", f"{PREFIX}hp:a")) == kept
        assert redis.cli("KEYS", f"{PREFIX}*p:unknown") == ""

    with_one_shard(life)


def test_payloads_of_refused_calls_do_not_pile_up_at_the_receiver(with_one_shard: Any) -> None:
    async def life(nodes: Nodes) -> None:
        listener, _ = await nodes.member("ann", "a")
        engine, _ = await nodes.node()
        [for_user], [shard] = listener._shards, engine._shards
        for letter in (b"x", b"y"):
            await soon(lambda: shard.is_linked)
            shard._state.epoch = "another"
            payload = b'"%b"' % (letter * BIG)
            with pytest.raises(Unavailable):
                await engine.publish([msgspec.structs.replace(message("m1"), payload=payload)])
            await soon(lambda payload=payload: payload in for_user.subscriber._payloads.values())  # type: ignore[misc]
        assert len(for_user.subscriber._payloads) == 1

    with_one_shard(life, lease_s=PATIENCE_S)


@pytest.mark.parametrize("change", [edit("m1", b'"newer"'), delete("m1")], ids=["edited", "deleted"])
def test_an_entry_superseded_during_a_read_is_read_again(with_one_shard: Any, change: Event) -> None:
    """The payload that a script's answer refers to may be gone when the node reads it."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.member("ann", "a", store_history=True)
        other, _ = await nodes.node()
        await other.publish([big(1), message("m2")])
        changes = [change]
        [shard] = engine._shards
        assert shard.client._link is not None
        command = shard.client._link.command

        async def later(*parts: Any) -> Any:
            while changes:
                await other.publish([changes.pop()])
            return await command(*parts)

        shard.client._link.command = later  # type: ignore[method-assign]
        replay = await engine.replay("ann", {"a": 0}, 100)
        texts = [entry.event.payload for entry in replay.entries if isinstance(entry.event, Message)]
        assert texts == ([b'"hi"'] if change == delete("m1") else [b'"newer"', b'"hi"'])
        assert replay.read_to <= replay.head
        assert replay.lost == frozenset()
        changes = [delete("m3")]
        await other.publish([big(3)])
        [channel] = await engine.channels(["a"])
        assert [entry.event.uuid for entry in channel.history.entries] == (
            ["m2"] if change == delete("m1") else ["m1", "m2"]
        )

    with_one_shard(life)


def test_many_logs_are_read_by_several_calls(with_one_shard: Any) -> None:
    """Together they are one replay: each entry once, in order, up to one common offset."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        names = [f"c{number}" for number in range(2 * CHUNK + 1)]
        await engine.configure({name: {} for name in names})
        await engine.publish([message(f"m{number}", channel=names[number]) for number in range(len(names))])
        starts = dict.fromkeys([*names, "unknown"], 0)
        at, found = 0, []
        while at < (await engine.head()).offsets[0]:
            replay = await engine.replay("ann", {name: max(at, 0) for name in starts}, 300)
            assert replay.lost == {"unknown"}
            found += [entry.event.uuid for entry in replay.entries]
            (at,) = replay.read_to
        assert found == [f"m{number}" for number in range(len(names))]

    with_one_shard(life)


def test_nothing_newer_is_delivered_before_a_gap_is_healed(with_one_shard: Any) -> None:
    """Events behind a gap would move positions past the missing ones."""

    async def life(nodes: Nodes) -> None:
        engine, listener = await nodes.member("ann", "a", "b")
        speaker, _ = await nodes.node()
        await speaker.publish([message("m0"), message("m1", channel="b")])
        await soon(lambda: len(received(listener)) == 2)
        [shard] = engine._shards
        assert shard.client._link is not None
        take = shard.client._link.subscription._buffer_or_dispatch

        def forgetful(name: bytes, data: bytes) -> None:
            if b'"m2"' not in data:
                take(name, data)

        shard.client._link.subscription._buffer_or_dispatch = forgetful  # type: ignore[method-assign]
        await speaker.publish([message("m2"), message("m3"), message("m4", channel="b")])
        await soon(lambda: len(received(listener)) == 5)
        assert received(listener) == ["m0", "m1", "m2", "m3", "m4"]

    with_one_shard(life)


def names_in(shard: int, letter: str) -> list[str]:
    """Return names that a log of three shards has in one of them."""
    return [name for name in (f"{letter}{number}" for number in range(100)) if shard_of(name, 3) == shard]


def test_unsubscribe_during_restore_is_not_undone(with_three_shards: Any) -> None:
    """A connection is registered in the channels it has when the shard is asked, not in those it had before."""

    async def life(nodes: Nodes) -> None:
        left, kept = names_in(1, "c")[:2]
        engine, recorder = await nodes.node()
        member = Member(names_in(0, "k")[0], names_in(0, "u")[0], V07)
        recorder.members[member.conn_id] = (member, {left, kept})
        await engine.connect(member, EMPTY)
        await engine.join(member, {left: {}, kept: {}})
        state_for = engine._shards.state_for

        async def slow(*about: Any) -> bytes:
            recorder.members[member.conn_id] = (member, {kept})
            await engine.leave(member, [left])
            return await state_for(*about)

        engine._shards.state_for = slow  # type: ignore[method-assign]
        await engine.cluster._restoring.restore(member.conn_id, engine._shards.at(left))
        users = {channel.name: channel.users for channel in await engine.channels([left, kept])}
        assert users == {left: {}, kept: {member.user: 1}}

    with_three_shards(life)


def test_a_node_that_was_cut_off_leaves_connections_of_a_new_owner_alone(with_three_shards: Any) -> None:
    """Of a connection whose own shard is still out of reach, no other shard is informed."""

    async def life(nodes: Nodes) -> None:
        left, joined = names_in(1, "c")[:2]
        cut_off, recorder = await nodes.node()
        other, other_recorder = await nodes.node()
        member = Member(names_in(0, "k")[0], names_in(1, "u")[0], V07)
        recorder.members[member.conn_id] = (member, {left})
        await cut_off.connect(member, EMPTY)
        await cut_off.join(member, {left: {}})
        establish = [shard.establish for shard in cut_off._shards]

        async def unreachable() -> None:
            raise Unavailable("It is out of reach.")

        for shard in cut_off._shards:
            shard.establish = unreachable  # type: ignore[method-assign]
        cut(cut_off)
        claim = await other.cluster.claim(member.conn_id, orphan=False, request_release=at_once)
        assert claim is not None
        other_recorder.members[member.conn_id] = (member, {joined})
        await other.join(member, {joined: {}})
        await other.leave(member, [left])
        shards = list(cut_off._shards)
        for index in (1, 0, 2):
            shards[index].establish = establish[index]  # type: ignore[method-assign]
            await soon(lambda index=index: shards[index].is_linked)  # type: ignore[misc]
            await asyncio.sleep(0.1)  # real time: a wrong restore is sent within it.
        await soon(lambda: not recorder.members)
        users = {channel.name: channel.users for channel in await other.channels([left, joined])}
        assert users == {left: {}, joined: {member.user: 1}}

    with_three_shards(life)


async def away(nodes: Nodes) -> tuple[RedisEngine, Recorder, Member, str]:
    """Start a node with a connection in one channel, which lies in another shard than its id and its user."""
    engine, recorder = await nodes.node()
    member, channel = Member(names_in(0, "k")[0], names_in(0, "u")[0], V07), names_in(1, "c")[0]
    recorder.members[member.conn_id] = (member, {channel})
    await engine.connect(member, EMPTY)
    await engine.join(member, {channel: {}})
    return engine, recorder, member, channel


def named(redis: RedisServer, member: Member) -> str:
    """Return which other shards count a connection as that of its id has it."""
    return redis.cli("HGET", f"{prefixes(3)[0]}k:{member.conn_id}", "shards")


def take_out_of_reach(shard: Any) -> Callable[[], None]:
    """Break the link of a shard and let no other be made; return what ends that."""
    establish = shard.establish

    async def unreachable() -> None:
        raise Unavailable("It is out of reach.")

    def mend() -> None:
        shard.establish = establish

    shard.establish = unreachable
    shard.client._link.abandon("the test cuts it")
    return mend


def test_a_connection_that_left_a_shard_is_complete_for_the_next_node(
    redis: RedisServer, with_three_shards: Any
) -> None:
    """Though the shard of its id could not be reached, and its node has died since."""

    async def life(nodes: Nodes) -> None:
        engine, recorder, member, channel = await away(nodes)
        other, _ = await nodes.node()
        take_out_of_reach(engine._shards.at(member.conn_id))
        recorder.members[member.conn_id] = (member, set())
        await engine.leave(member, [channel])
        await engine.close()
        assert named(redis, member) == "1"
        claim = await other.cluster.claim(member.conn_id, orphan=False, request_release=at_once)
        assert claim is not None
        assert (claim.is_whole, claim.channels) == (True, {})

    with_three_shards(life, lease_s=PATIENCE_S)


def test_a_shard_that_was_left_is_not_asked_when_the_shard_of_the_id_returns(
    redis: RedisServer, with_three_shards: Any
) -> None:
    async def life(nodes: Nodes) -> None:
        engine, recorder, member, channel = await away(nodes)
        mend = take_out_of_reach(engine._shards.at(member.conn_id))
        recorder.members[member.conn_id] = (member, set())
        await engine.leave(member, [channel])
        mend()
        key = f"{prefixes(3)[1]}k:{member.conn_id}"
        await soon(lambda: named(redis, member) == "" and redis.cli("EXISTS", key) == "0")
        registrations = engine.cluster._registrar.ownership.registrations
        assert not registrations.has(member.conn_id, engine._shards.at(channel).index)

    with_three_shards(life)


def test_a_shard_joined_after_a_lost_answer_is_named(redis: RedisServer, with_three_shards: Any) -> None:
    """It is unknown whether the shard of the id removed the name when the last channel was left."""

    async def life(nodes: Nodes) -> None:
        engine, recorder, member, channel = await away(nodes)
        directory = engine._shards.at(member.conn_id)
        call = directory.client.call

        async def lost(operation: str, **arguments: Any) -> Any:
            await call(operation, **arguments)
            raise Unavailable("The answer is lost.")

        directory.client.call = lost  # type: ignore[method-assign]
        recorder.members[member.conn_id] = (member, set())
        await engine.leave(member, [channel])
        assert named(redis, member) == ""
        directory.client.call = call  # type: ignore[method-assign]
        recorder.members[member.conn_id] = (member, {channel})
        await engine.join(member, {channel: {}})
        assert named(redis, member) == "1"

    with_three_shards(life, lease_s=PATIENCE_S)


def test_a_shard_named_for_a_failed_join_is_not_asked(redis: RedisServer, with_three_shards: Any) -> None:
    """The shard of the id had named it, but the answer was lost, so that it was not joined."""

    async def life(nodes: Nodes) -> None:
        engine, recorder, member, channel = await away(nodes)
        recorder.members[member.conn_id] = (member, set())
        await engine.leave(member, [channel])
        directory = engine._shards.at(member.conn_id)
        call = directory.client.call

        async def lost(operation: str, **arguments: Any) -> Any:
            answer = await call(operation, **arguments)
            if operation == "copy":
                assert named(redis, member).strip() == "1"
                raise Unavailable("The answer is lost.")
            return answer

        directory.client.call = lost  # type: ignore[method-assign]
        with pytest.raises(Unavailable, match="lost"):
            await engine.join(member, {channel: {}})
        await soon(lambda: named(redis, member) == "")

    with_three_shards(life)


def test_a_shard_that_was_never_joined_is_not_asked(redis: RedisServer, with_three_shards: Any) -> None:
    """It became unreachable right after the shard of the id had named it, and stays unreachable."""

    async def life(nodes: Nodes) -> None:
        engine, recorder, member, channel = await away(nodes)
        recorder.members[member.conn_id] = (member, set())
        await engine.leave(member, [channel])
        shard = engine._shards.at(channel)
        call = shard.client.call

        async def broken(operation: str, **arguments: Any) -> Any:
            if operation == "join":
                take_out_of_reach(shard)
            return await call(operation, **arguments)

        shard.client.call = broken  # type: ignore[method-assign]
        with pytest.raises(Unavailable):
            await engine.join(member, {channel: {}})
        await soon(lambda: named(redis, member) == "")

    with_three_shards(life)


def test_a_shard_is_named_until_its_last_channel_is_left(redis: RedisServer, with_three_shards: Any) -> None:
    """Also by a restore during the leave: a node that takes it over needs that shard."""

    async def life(nodes: Nodes) -> None:
        engine, recorder, member, channel = await away(nodes)
        # As a node says it from when the leaving begins.
        recorder.members[member.conn_id] = (member, set())
        directory = engine._shards.at(member.conn_id)
        await engine.cluster._restoring.restore(member.conn_id, directory)
        assert named(redis, member) == "1"
        other, _ = await nodes.node()
        claim = await other.cluster.claim(member.conn_id, orphan=False, request_release=at_once)
        assert claim is not None
        assert list(claim.channels) == [channel]

    with_three_shards(life, lease_s=PATIENCE_S)


def test_a_shard_left_during_a_handover_no_longer_counts_the_connection(with_three_shards: Any) -> None:
    """The shard of its id does not name it: the next node that took the connection over would not ask it."""

    async def life(nodes: Nodes) -> None:
        engine, _, member, channel = await away(nodes)
        other, _ = await nodes.node()

        async def leave() -> None:
            await engine.leave(member, [channel])

        claim = await other.cluster.claim(member.conn_id, orphan=False, request_release=leave)
        assert claim is not None
        assert (list(claim.channels), claim.is_whole) == ([], True)
        shard = other._shards.at(channel)
        assert not other.cluster._registrar.ownership.registrations.has(member.conn_id, shard.index)
        assert await shard.client.unregistered([member.conn_id]) == [member.conn_id]

    with_three_shards(life, lease_s=PATIENCE_S)


@pytest.mark.parametrize("slow", ["spread", "disconnect"])
def test_a_channel_joined_while_its_shard_is_left_counts(with_three_shards: Any, slow: str) -> None:
    """The reconciler finds no channel of a connection in a shard, and the connection joins one there before the removal.

    Args:
        slow: which of the calls is answered after it has joined.
    """

    async def life(nodes: Nodes) -> None:
        engine, recorder, member, channel = await away(nodes)
        other, _ = await nodes.node()
        shard = engine._shards.at(channel)
        answered, let_go = asyncio.Event(), asyncio.Event()
        for each in (shard, engine._shards.at(member.conn_id)):
            hold_back(each, slow, answered, let_go)
        recorder.members[member.conn_id] = (member, set())
        restoring = asyncio.ensure_future(engine.cluster._restoring.restore(member.conn_id, shard))
        await answered.wait()
        recorder.members[member.conn_id] = (member, {channel})
        await engine.join(member, {channel: {}})
        let_go.set()
        await restoring
        [found] = await other.channels([channel])
        assert found.users == {member.user: 1}
        claim = await other.cluster.claim(member.conn_id, orphan=False, request_release=at_once)
        assert claim is not None
        assert (claim.is_whole, list(claim.channels)) == (True, [channel])

    with_three_shards(life, lease_s=PATIENCE_S)


def hold_back(shard: Any, operation: str, answered: asyncio.Event, let_go: asyncio.Event) -> None:
    """Keep the first answer to an operation until it is released."""
    step = shard.client.step

    async def late(asked: str, **arguments: Any) -> Any:
        answer = await step(asked, **arguments)
        if asked == operation and not answered.is_set():
            answered.set()
            await let_go.wait()
        return answer

    shard.client.step = late


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_connection_that_failed_to_connect_is_removed_at_once(
    redis: RedisServer, with_nodes: Any, is_cancelled: bool
) -> None:
    """Though one shard registered all of it before the answer was lost, or the caller left."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        for lease_manager in engine._lease_managers:
            await lease_manager.stop()  # Which would find it, too.
        shard = engine._shards.at("ann")
        call = shard.client.call

        async def lost(operation: str, **arguments: Any) -> Any:
            answer = await call(operation, **arguments)
            if operation == "connect":
                assert redis.cli("KEYS", "*k:ann")
                if not is_cancelled:
                    raise Unavailable("The answer is lost.")
                connecting.cancel()
                await asyncio.sleep(0)
            return answer

        shard.client.call = lost  # type: ignore[method-assign]
        connecting = asyncio.ensure_future(engine.connect(Member("ann", "ann", V07), EMPTY))
        with pytest.raises(asyncio.CancelledError if is_cancelled else Unavailable):
            await connecting
        assert redis.cli("KEYS", "*k:ann") == ""
        assert not engine.cluster._registrar.ownership.registrations.has("ann", shard.index)

    with_nodes(life)


def test_nothing_is_kept_of_a_connection_that_ended_in_an_outage(with_nodes: Any) -> None:
    """Neither its unconfirmed owner, nor its unconfirmed channels."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.member("ann", "a")
        member, _ = recorder.members["ann"]
        ownership = engine.cluster._registrar.ownership
        for shard in engine._shards:
            take_out_of_reach(shard)
        await soon(lambda: ownership.owner("ann") is Owner.SUSPECTED)
        with pytest.raises(Unavailable):
            await engine.leave(member, ["a"])
        assert any(ownership.registrations.unconfirmed)
        del recorder.members["ann"]
        with pytest.raises(Unavailable):
            await engine.disconnect(member, ["a"])
        assert not ownership._stored
        assert not any(ownership.registrations.unconfirmed)

    with_nodes(life)


def test_a_shard_out_of_reach_does_not_cost_the_link_with_another(
    redis: RedisServer, with_three_shards: Any
) -> None:
    """A connection that cannot be restored yet, as its user is in another shard, waits for a later heartbeat."""

    async def life(nodes: Nodes) -> None:
        [channel, *_] = names_in(1, "c")
        engine, recorder = await nodes.node()
        member = Member(names_in(0, "k")[0], names_in(0, "u")[0], V07)
        recorder.members[member.conn_id] = (member, {channel})
        await engine.connect(member, EMPTY)
        await engine.join(member, {channel: {}})
        home, away, _ = engine._shards
        establish, establish_away, links = home.establish, away.establish, 0

        async def unreachable() -> None:
            raise Unavailable("It is out of reach.")

        async def establish_and_count() -> None:
            nonlocal links
            links += 1
            await establish_away()

        home.establish, away.establish = unreachable, establish_and_count  # type: ignore[method-assign]
        prefix = prefixes(3)[1]
        redis.cli(
            "DEL", *(prefix + key for key in (f"k:{member.conn_id}", f"kc:{member.conn_id}", f"cu:{channel}"))
        )
        redis.cli("DEL", f"{prefix}nk:{engine.cluster._registrar.node}")
        for shard in (home, away):
            assert shard.client._link is not None
            shard.client._link.abandon("the test cuts it")
        await asyncio.sleep(1.5)  # real time: longer than a lease of Redis.
        assert (links, away.is_linked) == (1, True)
        home.establish = establish  # type: ignore[method-assign]
        await soon(lambda: home.is_linked)
        await counted(engine, {channel: {member.user: 1}})

    with_three_shards(life)


def test_a_shard_that_was_unreachable_announces_a_state_later(with_three_shards: Any) -> None:
    """The change is accepted, since the user's own shard has it; the channels of the other get it late."""

    async def life(nodes: Nodes) -> None:
        user, [channel, *_] = names_in(0, "u")[0], names_in(1, "c")
        engine, recorder = await nodes.node()
        member = Member(names_in(0, "k")[0], user, V07)
        recorder.members[member.conn_id] = (member, {channel})
        await engine.connect(member, EMPTY)
        await engine.join(member, {channel: {"notify_state": True}})
        away = engine._shards.at(channel)
        establish = away.establish

        async def unreachable() -> None:
            raise Unavailable("It is out of reach.")

        away.establish = unreachable  # type: ignore[method-assign]
        assert away.client._link is not None
        away.client._link.abandon("the test cuts it")
        change = await engine.update_user(user, UserUpdate({"mood": 1}, {}, ["mood"]))
        assert change is not None
        assert (change.changed, state_events(recorder)) == ([("mood", 1)], [])
        away.establish = establish  # type: ignore[method-assign]
        await soon(lambda: state_events(recorder) == [(channel, 1)])

    with_three_shards(life)


@pytest.mark.parametrize("has_another", [True, False])
def test_a_cancelled_join_leaves_no_stale_registration(with_three_shards: Any, has_another: bool) -> None:
    """Its shard may have registered it nevertheless; a heartbeat corrects that."""

    async def life(nodes: Nodes) -> None:
        joined, other = names_in(1, "c")[:2]
        engine, recorder = await nodes.node()
        member = Member(names_in(0, "k")[0], names_in(0, "u")[0], V07)
        recorder.members[member.conn_id] = (member, {other} if has_another else set())
        await engine.connect(member, EMPTY)
        await engine.join(member, {other: {}} if has_another else {})
        shard = engine._shards.at(joined)
        call = shard.client.call

        async def gone(operation: str, **arguments: Any) -> Any:
            if operation == "join":
                asyncio.get_running_loop().call_soon(joining.cancel)
            return await call(operation, **arguments)

        shard.client.call = gone  # type: ignore[method-assign]
        joining = asyncio.ensure_future(engine.join(member, {joined: {}}))
        with pytest.raises(asyncio.CancelledError):
            await joining
        await counted(engine, {joined: {}})

    with_three_shards(life)


def test_nodes_do_not_reap_each_other_after_an_outage(with_one_shard: Any) -> None:
    """The first one gives the others the time between two heartbeats, though all leases have expired."""

    async def life(nodes: Nodes) -> None:
        first, watcher = await nodes.member("ann", "a", notify_presence=True)
        second, _ = await nodes.member("bob", "a")
        [early], [late] = first._shards, second._shards
        establish_early, establish_late = early.establish, late.establish

        async def unreachable() -> None:
            raise Unavailable("It is out of reach.")

        early.establish = late.establish = unreachable  # type: ignore[method-assign]
        cut(first)
        cut(second)
        await asyncio.sleep(1.2)  # real time: longer than a lease of Redis.
        early.establish = establish_early  # type: ignore[method-assign]
        await soon(lambda: early.is_linked)
        # The heartbeat that was due meanwhile, as in an outage.
        await first._lease_managers[0]._heartbeat()
        await first.replay("nobody", {}, 0)
        assert parted(watcher) == []
        late.establish = establish_late  # type: ignore[method-assign]

    with_one_shard(life)


def test_two_services_share_a_redis_by_their_databases(redis: RedisServer) -> None:
    """Though published events arrive from all of them."""

    async def life(one: Nodes, other: Nodes) -> None:
        engine, listener = await one.member("ann", "a")
        speaker, stranger = await other.member("ann", "a")
        for number in range(3):
            await speaker.publish([message(f"other{number}")])
        await engine.publish([message("mine")])
        await soon(lambda: received(listener) == ["mine"] and len(received(stranger)) == 3)
        assert (listener.renewals, stranger.renewals) == (0, 0)
        await one.close()
        await other.close()

    redis.cli("FLUSHALL")
    asyncio.run(life(Nodes(shard_addresses(redis.address)), Nodes(shard_addresses(f"{redis.address}?db=1"))))


def test_dead_nodes_are_unregistered_in_small_steps(with_one_shard: Any) -> None:
    """However many channels their connections are in, so that Redis serves others in between."""

    async def life(nodes: Nodes) -> None:
        dying, recorder = await nodes.node()
        channels = {f"c{number}": {} for number in range(50)}
        for number in range(10):
            member = Member(f"k{number}", f"u{number}", V07)
            recorder.members[member.conn_id] = (member, set(channels))
            await dying.connect(member, EMPTY)
            await dying.join(member, channels)
        await dying.close()
        living, _ = await nodes.node()
        [shard] = living._shards
        call, left = shard.client.call, []

        async def recorded(operation: str, **arguments: Any) -> Any:
            answer = await call(operation, **arguments)
            if operation == "reap":
                left.append(answer)
            return answer

        shard.client.call = recorded  # type: ignore[method-assign]
        await soon(lambda: 0 in left)
        assert left[-1] == 0
        assert len(left) >= 5
        assert all(before - after <= 3 for before, after in pairwise([10, *left]))

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


def test_a_copy_of_a_state_that_no_channel_needs_expires(redis: RedisServer, with_three_shards: Any) -> None:
    """Also where the connection is restored in that shard because of its id."""

    async def life(nodes: Nodes) -> None:
        [channel, *_] = names_in(1, "c")
        engine, recorder = await nodes.node()
        member = Member(names_in(1, "k")[0], names_in(0, "u")[0], V07)
        recorder.members[member.conn_id] = (member, set())
        await engine.connect(member, UserUpdate({"mood": "fine"}, {}, ["mood"]))
        await engine.join(member, {channel: {}})
        await engine.leave(member, [channel])
        await engine.update_user(member.user, UserUpdate({"mood": "bored"}, {}))
        await engine.cluster._restoring.restore(member.conn_id, engine._shards.at(channel))
        copies = [f"{prefixes(3)[1]}{kind}:{member.user}" for kind in ("u", "us")]
        assert all(int(redis.cli("PTTL", copy)) > 0 for copy in copies)

    with_three_shards(life)


def test_a_cluster_that_names_no_host_means_the_member_that_was_asked(
    redis: RedisServer, tmp_path: Path
) -> None:
    """As Redis 7 and later may answer, where members have no name that every client can resolve."""
    if "redis_version:6" in redis.cli("INFO", "server"):
        pytest.skip("This Redis always names hosts.")
    flags = (
        "--save",
        "",
        "--cluster-enabled",
        "yes",
        "--cluster-preferred-endpoint-type",
        "unknown-endpoint",
    )
    [port] = free_ports(1)
    server = RedisServer(tmp_path, *flags, port=port)
    server.start()
    try:
        server.cli("CLUSTER", "ADDSLOTS", *map(str, range(16_384)))
        [place] = shard_addresses(f"redis+cluster://127.0.0.1:{port}?shards=1")

        async def connected() -> None:
            connection: Any = place.connect()
            await connection.connect()
            await connection.disconnect(nowait=True)

        asyncio.run(connected())
    finally:
        server.kill()


def test_a_reused_conn_id_leaves_no_stale_registration_of_the_first_user(with_three_shards: Any) -> None:
    """Though a shard was unreachable when the connection of the first user ended."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.node()
        [conn_id, *_], users, (left, joined, *_) = names_in(0, "k"), names_in(0, "u"), names_in(1, "c")
        first, second = (Member(conn_id, user, V07) for user in users[:2])
        recorder.members[conn_id] = (first, {left})
        await engine.connect(first, EMPTY)
        await engine.join(first, {left: {}})
        await engine._shards.at(conn_id).client.call(
            "disconnect", conn_id=conn_id, node=engine.cluster._registrar.node
        )
        recorder.members[conn_id] = (second, {joined})
        assert await engine.connect(second, EMPTY) is not None
        await engine.join(second, {joined: {}})
        users_of = {channel.name: channel.users for channel in await engine.channels([left, joined])}
        assert users_of == {left: {}, joined: {second.user: 1}}

    with_three_shards(life)


def said(number: int, channel: str | None = "a", **rest: Any) -> Message:
    """A message whose text no other one has."""
    text = b'"secret %03d %b"' % (number, b"." * (20 * number))
    return Message(uuid=f"m{number}", channel=channel, user="ann", payload=text, timestamp="t", **rest)


@pytest.mark.parametrize("big_bytes", [codec.BIG_BYTES, 1], ids=["inside", "beside"])
def test_nothing_of_a_deleted_text_is_in_a_snapshot(
    redis: RedisServer, with_one_shard: Any, monkeypatch: pytest.MonkeyPatch, big_bytes: int
) -> None:
    """Neither in its log, nor in the history, nor in private messages: its edit or deletion removed it."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.member("ann", "a", store_history=True, history_size=100)
        ann = frozenset({"ann"})
        await engine.publish([said(number) for number in range(60)])
        await engine.publish([said(number, None, only=ann) for number in range(60, 90)])
        for number in range(90):
            place: dict[str, Any] = {"channel": "a"} if number < 60 else {"channel": None, "only": ann}
            if number % 3 == 1:
                await engine.publish([edit(f"m{number}", **place), edit(f"m{number}", b'"newer"', **place)])
            elif number % 3 == 2:
                await engine.publish([delete(f"m{number}", **place)])
        redis.cli("CONFIG", "SET", "rdbcompression", "no")
        assert redis.cli("SAVE") == "OK"
        snapshot = (redis.socket.parent / "dump.rdb").read_bytes()
        assert set(map(int, re.findall(rb"secret (\d{3})", snapshot))) == set(range(0, 90, 3))
        assert b'"new"' not in snapshot

    monkeypatch.setattr(codec, "BIG_BYTES", big_bytes)
    with_one_shard(life)


def test_a_node_that_was_cut_off_receives_the_current_forms(with_nodes: Any) -> None:
    """An entry superseded meanwhile is no gap: no loss is reported."""

    async def life(nodes: Nodes) -> None:
        listener, recorder = await nodes.member("ann", "a")
        other, _ = await nodes.node()
        shard = listener._shards.at("a")
        await other.publish([message("m0")])
        await soon(lambda: received(recorder) == ["m0"])
        assert shard.client._link is not None
        shard.client._link.abandon("the test cuts it")
        await other.publish(
            [message("m1"), message("m2"), edit("m2"), delete("m1"), delete("m0"), message("m3")]
        )
        await soon(lambda: received(recorder)[-1:] == ["m3"])
        reported = [(type(event).__name__, event.uuid) for event in map(event_of, recorder.entries)]
        assert reported[1:] == [
            ("Message", "m2"),
            ("MessageEdited", "m2"),
            ("MessageDeleted", "m1"),
            ("MessageDeleted", "m0"),
            ("Message", "m3"),
        ]
        assert recorder.gaps == []

    with_nodes(life)


@pytest.mark.parametrize(("at_once", "read"), [(CHUNK, 200), (1, 200), (CHUNK, 1)])
@pytest.mark.parametrize("one", ["u1", "u2"])
@pytest.mark.parametrize("big_bytes", [codec.BIG_BYTES, 1], ids=["inside", "beside"])
def test_healing_delivers_the_form_of_a_private_message_of_each_user(
    with_one_shard: Any, monkeypatch: pytest.MonkeyPatch, at_once: int, read: int, one: str, big_bytes: int
) -> None:
    """It has one offset in the logs of all its users, and another text for one of them after an edit."""

    async def life(nodes: Nodes) -> None:
        node = engine, recorder = await nodes.node()
        other, _ = await nodes.node()
        for user in ("u1", "u2", "u3"):
            await enter(node, user, "a", {})
        private = {"channel": None, "only": frozenset({"u1", "u2", "u3"})}
        mine = {"channel": None, "only": frozenset({one})}
        cut(engine)
        await other.publish(
            [
                message("m1", **private),
                edit("m1", b'"for one"', **mine),
                message("m2", **private),
                delete("m2", **mine),
                message("m3", **private),
            ]
        )
        await soon(lambda: "m3" in received(recorder))
        events = list(map(event_of, recorder.entries))
        for user in ("u1", "u2", "u3"):
            got = [
                (each.uuid, getattr(each, "payload", None)) for each in events if user in (each.only or ())
            ]
            whole = [("m1", b'"hi"'), ("m2", b'"hi"'), ("m3", b'"hi"')]
            changed = [("m1", b'"for one"'), ("m1", b'"for one"'), ("m2", None), ("m3", b'"hi"')]
            assert got == (changed if user == one else whole)
        # Users with the same form of it share an entry.
        assert read == 1 or at_once == 1 or [each.uuid for each in events].count("m3") == 1
        assert recorder.gaps == []

    monkeypatch.setattr(shard_recovery_module, "CHUNK", at_once)
    monkeypatch.setattr(shard_recovery_module, "READ_AT_ONCE", read)
    monkeypatch.setattr("channelstream.engines.redis.shard_log.READ_AT_ONCE", read)
    monkeypatch.setattr(codec, "BIG_BYTES", big_bytes)
    with_one_shard(life)


@pytest.mark.parametrize("gone", ["cr", "cp"])
def test_a_message_whose_record_was_evicted_is_lost_and_not_passed_over(
    redis: RedisServer, with_one_shard: Any, gone: str
) -> None:
    """A Redis that evicts keys removes records or big payloads, and keeps the log."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.member("ann", "a", store_history=True)
        await engine.publish([big(1)])
        redis.cli("DEL", f"{PREFIX}{gone}:a")
        assert (await engine.replay("ann", {"a": 0}, 100)).lost == {"a"}
        redis.cli("DEL", f"{PREFIX}hp:a")
        [again] = await engine.publish([big(1)])
        assert (again.event, again.duplicate) == (big(1), True)

    with_one_shard(life)
