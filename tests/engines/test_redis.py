"""The Redis engine: the shared suite over a real Redis, and what is its own."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.engines.conformance import *  # noqa: F403
from tests.engines.conformance import EMPTY, MakeEngine, Recorder, Settle, Setup, message, uuids
from tests.redis_server import PATIENCE_S, RedisServer, redis_cluster

from channelstream.clock import new_epoch
from channelstream.core.events import Dialect, Event, Message
from channelstream.core.registry import RegistryLimits
from channelstream.engines.base import Engine, Member
from channelstream.engines.ledger import Lifetimes
from channelstream.engines.redis.address import connector
from channelstream.engines.redis.engine import PREFIX, RedisEngine, RedisSettings
from channelstream.engines.redis.link import Link
from channelstream.errors import ConfigError, Unavailable


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for all tests of this module; each begins with an empty one."""
    server = RedisServer(tmp_path_factory.mktemp("redis"), "--save", "")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def make_engine(redis: RedisServer) -> MakeEngine:
    redis.cli("FLUSHALL")

    def make(setup: Setup) -> RedisEngine:
        return RedisEngine(
            connector(redis.address, PREFIX),
            setup.limits,
            Lifetimes(setup.users_s, setup.channels_s),
            lambda: str(uuid4()),
            new_epoch,
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


class Nodes:
    """Several engines on one Redis, in one loop; each has its recorder."""

    def __init__(self, address: str, timeout_s: float = 0.5, lease_s: float = 1.0) -> None:
        self._settings = RedisSettings(timeout_s, lease_s)
        self._address = address
        self._engines: list[RedisEngine] = []

    async def node(self) -> tuple[RedisEngine, Recorder]:
        """Start one more."""
        engine = RedisEngine(
            connector(self._address, PREFIX),
            RegistryLimits(),
            Lifetimes(),
            lambda: str(uuid4()),
            new_epoch,
            self._settings,
        )
        recorder = Recorder()
        await engine.start(recorder)
        self._engines.append(engine)
        return engine, recorder

    async def member(self, conn_id: str, *channels: str, **settings: Any) -> tuple[RedisEngine, Recorder]:
        """Start one more that holds a connection, whose user is called like it."""
        engine, recorder = await self.node()
        member = Member(conn_id, conn_id, Dialect.V07)
        recorder.members[conn_id] = (member, set(channels))
        assert await engine.connect(member, EMPTY) is not None
        await engine.join(member, dict.fromkeys(channels, settings))
        return engine, recorder

    async def close(self) -> None:
        for engine in self._engines:
            await engine.close()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition; its failure is told by the test's own time limit."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.01)


async def published(engine: RedisEngine, event: Event) -> None:
    """Publish, again while Redis is out of reach, as an application does."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await engine.publish([event])
            except Unavailable:
                await asyncio.sleep(0.02)
            else:
                return


def heard(recorder: Recorder) -> list[str]:
    return [entry.event.uuid for entry in recorder.entries if isinstance(entry.event, Message)]


@pytest.fixture
def with_nodes(redis: RedisServer) -> Callable[[Callable[[Nodes], Coroutine[Any, Any, None]]], None]:
    """Run a test's coroutine with nodes on an empty Redis."""

    def run(test: Callable[[Nodes], Coroutine[Any, Any, None]]) -> None:
        async def life() -> None:
            nodes = Nodes(redis.address)
            try:
                await test(nodes)
            finally:
                await nodes.close()

        redis.cli("FLUSHALL")
        asyncio.run(life())

    return run


def test_a_dropped_subscription_is_healed_in_order(redis: RedisServer, with_nodes: Any) -> None:
    """What was published while a node heard nothing is delivered before anything newer, once."""

    async def life(nodes: Nodes) -> None:
        _, listener = await nodes.member("ann", "a", "b")
        speaker, _ = await nodes.node()
        for number in range(50):
            await published(speaker, message(f"m{number}", channel="ab"[number % 2]))
            if number % 10 == 5:
                redis.cli("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: len(heard(listener)) >= 50)
        assert heard(listener) == [f"m{number}" for number in range(50)]
        assert listener.gaps == []

    with_nodes(life)


def test_what_the_log_no_longer_holds_is_told(with_nodes: Any) -> None:
    """A channel that cannot be healed is lost, and what is delivered then is newer."""

    async def life(nodes: Nodes) -> None:
        engine, listener = await nodes.member("ann", "a", log_events=2)
        speaker, _ = await nodes.node()
        assert engine._link is not None
        engine._link.abandon()
        # Sent in this turn of the loop; the way back takes several.
        await speaker.publish([message(f"m{number}") for number in range(5)])
        await until(lambda: bool(listener.gaps))
        assert (listener.gaps, heard(listener)) == ([(["a"], [])], [])

    with_nodes(life)


def test_a_standing_redis_refuses_and_comes_back(redis: RedisServer, with_nodes: Any) -> None:
    """Calls fail in time; when it goes on, the log is the same one and nothing is missed or doubled."""

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
        await until(lambda: "m3" in heard(listener))
        assert heard(listener) == ["m1", "m2", "m3"]
        assert (engine.position.epochs, listener.renewals) == (epoch, 0)

    with_nodes(life)


def test_a_full_redis_is_not_connected_with_again_and_again(redis: RedisServer, with_nodes: Any) -> None:
    """A link that cannot renew the lease is let go of before the next one is made."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        made = 0
        connect = engine._connect

        def counted() -> Any:
            nonlocal made
            made += 1
            return connect()

        engine._connect = counted
        redis.cli("CONFIG", "SET", "maxmemory", "1")
        try:
            assert engine._link is not None
            engine._link.abandon()
            await until(lambda: made >= 8)
            clients = redis.cli("CLIENT", "LIST").splitlines()
        finally:
            redis.cli("CONFIG", "SET", "maxmemory", "0")
        # The node's two, two that are just being made or let go of, and the one that asks.
        assert len(clients) <= 5
        await published(engine, message("m1"))

    with_nodes(life)


def test_a_node_outlives_what_it_cannot_read(with_nodes: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An answer that no code foresees is logged, and the node links again."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        hello = engine._hello
        failed = False

        async def unreadable(link: Link) -> None:
            nonlocal failed
            if not failed:
                failed = True
                raise ValueError("an answer nobody can read")
            await hello(link)

        engine._hello = unreadable  # type: ignore[method-assign]
        assert engine._link is not None
        engine._link.abandon()
        await published(engine, message("m1"))
        assert failed

    with_nodes(life)
    assert "an answer nobody can read" in caplog.text


def test_a_flushed_redis_is_another_log(redis: RedisServer, with_nodes: Any) -> None:
    """The node is told so, and its connections are counted again."""

    async def life(nodes: Nodes) -> None:
        engine, listener = await nodes.member("ann", "a")
        await engine.publish([message("m1")])
        before = engine.position
        redis.cli("FLUSHALL")
        await until(lambda: listener.renewals == 1)
        await published(engine, message("m2"))
        await until(lambda: "m2" in heard(listener))
        assert engine.position.epochs != before.epochs
        async with asyncio.timeout(PATIENCE_S):
            while not await engine.channels(["a"]):
                await asyncio.sleep(0.02)
        assert (await engine.channels(["a"]))[0].users == {"ann": 1}

    with_nodes(life)


def test_a_command_reaches_the_node_of_its_connection(with_nodes: Any) -> None:
    """And the answer comes back; a connection that nobody has is known to nobody."""

    async def life(nodes: Nodes) -> None:
        await nodes.member("ann", "a")
        other, _ = await nodes.node()
        assert await other.ask("ann", b"\xff stop") == b"obeyed \xff stop"
        assert await other.ask("nobody", b"stop") is None
        assert [(each.conn_id, each.user) for each in await other.members("a")] == [("ann", "ann")]

    with_nodes(life)


def test_a_claimed_connection_is_yielded_and_heard_there(with_nodes: Any) -> None:
    """Its channels move with it; an id is never two connections."""

    async def life(nodes: Nodes) -> None:
        _, before = await nodes.member("ann", "a")
        other, recorder = await nodes.node()
        assert await other.connect(Member("ann", "ann", Dialect.V07), EMPTY) is None
        claim = await other.claim("ann")
        assert claim is not None
        recorder.members["ann"] = (claim.member, set(claim.channels))
        assert (claim.member.user, list(claim.channels)) == ("ann", ["a"])
        await until(lambda: "ann" not in before.members)
        await other.publish([message("m1")])
        await until(lambda: heard(recorder) == ["m1"])
        assert await other.claim("nobody") is None

    with_nodes(life)


def test_only_channels_with_members_here_are_heard(redis: RedisServer, with_nodes: Any) -> None:
    """After the last one left, the node hears the channel no longer."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.member("ann", "a")
        assert f"{PREFIX}#c:a" in redis.cli("PUBSUB", "CHANNELS").splitlines()
        recorder.members["ann"][1].clear()
        await engine.leave(Member("ann", "ann", Dialect.V07), ["a"])
        await engine.collect()
        await engine.collect()
        await engine.head()
        assert f"{PREFIX}#c:a" not in redis.cli("PUBSUB", "CHANNELS").splitlines()
        assert f"{PREFIX}#u:ann" in redis.cli("PUBSUB", "CHANNELS").splitlines()

    with_nodes(life)


@pytest.mark.parametrize("has_data", [True, False])
def test_a_restarted_redis_is_another_log(tmp_path: Path, has_data: bool) -> None:
    """Even with its data: what was acknowledged last may be missing, and no older position is believed."""

    async def life(server: RedisServer) -> None:
        nodes = Nodes(server.address)
        engine, listener = await nodes.member("ann", "a", notify_presence=True)
        before = engine.position
        if has_data:
            server.cli("SAVE")
        await engine.publish([message("m1")])
        server.kill()
        with pytest.raises(Unavailable):
            await engine.publish([message("m2")])
        server.start()
        await until(lambda: listener.renewals == 1)
        await published(engine, message("m3"))
        await until(lambda: "m3" in heard(listener))
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
            await Nodes(f"unix://{tmp_path}/nothing").node()

    asyncio.run(life())


def test_a_cluster_of_three_masters_serves(tmp_path: Path) -> None:
    """All keys lie on one of them, which is found by asking any."""

    async def life(address: str) -> None:
        nodes = Nodes(address)
        _, listener = await nodes.member("ann", "a", notify_presence=True)
        speaker, _ = await nodes.node()
        await speaker.publish([message("m1"), message("m2", channel=None, only=frozenset({"ann"}))])
        await until(lambda: heard(listener) == ["m1", "m2"])
        assert uuids(await speaker.replay("ann", {"a": speaker.position.seqs[0]}, 10)) == ["m1"]
        await nodes.close()

    with redis_cluster(tmp_path, 3) as ports:
        asyncio.run(life("redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports)))


def test_a_join_costs_the_same_in_a_full_channel(redis: RedisServer, with_nodes: Any) -> None:
    """Redis runs as many commands for it, none of which grows with the members."""

    def commands() -> dict[str, int]:
        lines = redis.cli("INFO", "commandstats").splitlines()
        stats = (line.removeprefix("cmdstat_").partition(":calls=") for line in lines if "calls=" in line)
        return {name: int(rest.partition(",")[0]) for name, _, rest in stats}

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.member("first", "a", notify_presence=True)

        async def join_once(name: str) -> dict[str, int]:
            member = Member(name, name, Dialect.V07)
            await engine.connect(member, EMPTY)
            before = commands()
            await engine.join(member, {"a": {}})
            after = commands()
            counted = ("hincrby", "hset", "hmget", "xadd", "publish", "hkeys", "hgetall")
            return {name: after.get(name, 0) - before.get(name, 0) for name in counted}

        async def join(name: str) -> dict[str, int]:
            """The least of several: the keeper's own work, which comes when it will, may fall into one of them."""
            joins = [await join_once(f"{name}-{number}") for number in range(5)]
            return {name: min(each[name] for each in joins) for name in joins[0]}

        early = await join("early")
        for number in range(300):
            member = Member(f"m{number}", f"m{number}", Dialect.V07)
            await engine.connect(member, EMPTY)
            await engine.join(member, {"a": {}})
        assert await join("late") == early
        assert early["hkeys"] == early["hgetall"] == 0

    with_nodes(life)
