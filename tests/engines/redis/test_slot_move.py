"""The slot of a shard moves to another master of the cluster while calls go on."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from redis.asyncio.connection import Connection
from redis.crc import key_slot
from tests.engines.conformance import message
from tests.engines.conformance.nodes import received
from tests.engines.redis.nodes import SHORT_S, Nodes, big, link_of
from tests.redis_server import RedisServer, SlotMove, redis_cluster
from tests.waiting import soon

from channelstream.core.events import Message
from channelstream.engines.redis import servers, slot_move
from channelstream.engines.redis.address import prefixes, shard_addresses
from channelstream.engines.redis.engine import RedisEngine
from channelstream.errors import Unavailable

pytestmark = pytest.mark.slow

[PREFIX] = prefixes(1)
SLOT = key_slot(PREFIX.encode())
PATIENT_S = LEASE_S = 60.0
DECLARED = f"{PREFIX}log"
"""A key that exists as long as the log."""
TWO_STEPS = f"""
redis.call('HINCRBY', KEYS[1], 'seq', 1)
redis.call('EXISTS', '{PREFIX}c:a channel that does not exist')
return 'whole'
"""
"""A script that writes the key that it declares, and then reads one that it has computed."""


@pytest.fixture(scope="module")
def masters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    """Two masters, for all tests of this module: each moves the only shard to the other one."""
    with redis_cluster(tmp_path_factory.mktemp("cluster"), 2) as both:
        yield both


Life = Callable[[Nodes, SlotMove], Coroutine[Any, Any, None]]


@pytest.fixture
def with_a_move(masters: list[RedisServer], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a test with nodes on an empty log of one shard, and the move of its slot."""
    monkeypatch.setattr(servers, "MEMBER_TIMEOUT_S", PATIENT_S)

    def run(test: Life, timeout_s: float = PATIENT_S) -> None:
        for master in masters:
            master.cli("FLUSHALL")
        source = next(master for master in masters if master.cli("EXISTS", PREFIX) == "0")
        [target] = (master for master in masters if master is not source)
        members = ",".join(f"127.0.0.1:{master.port}" for master in masters)

        async def life() -> None:
            nodes = Nodes(shard_addresses(f"redis+cluster://{members}?shards=1"), timeout_s, LEASE_S)
            try:
                await test(nodes, SlotMove(source, target, SLOT))
            finally:
                await nodes.close()

        asyncio.run(life())

    return run


@asynccontextmanager
async def connection_to(server: RedisServer) -> AsyncIterator[Connection]:
    connection = Connection(port=server.port, protocol=2)
    try:
        await connection.connect()
        yield connection
    finally:
        await connection.disconnect()


async def asked(connection: Connection, *command: str) -> Any:
    await connection.send_command(*command)
    return await connection.read_response(disable_decoding=True)


async def logged(engine: RedisEngine) -> list[str]:
    """Return the uuids of the messages in the log of the channel."""
    found: list[str] = []
    at = 0
    while True:
        read = await engine.replay("nobody", {"a": at}, 100)
        found += [entry.event.uuid for entry in read.entries if isinstance(entry.event, Message)]
        [at] = read.read_to
        if read.read_to == read.head:
            return found


async def kept(move: SlotMove, field: str) -> str:
    """Return a field of the declared key at the old master."""
    return await asyncio.to_thread(move.source.cli, "HGET", DECLARED, field)


def test_nothing_is_lost_or_repeated_while_a_slot_moves(with_a_move: Any) -> None:
    """Calls wait until the move has ended, and the log goes on at the other master."""

    async def life(nodes: Nodes, move: SlotMove) -> None:
        engine, listener = await nodes.member("ann", "a")
        speaker, _ = await nodes.node()
        sent: list[str] = []
        is_done = False

        async def speak() -> None:
            while not is_done:
                event = message(f"m{len(sent)}") if len(sent) % 2 else big(len(sent))
                await speaker.publish([event])
                sent.append(event.uuid)
                await soon(lambda: received(listener) == sent)

        speaking = asyncio.create_task(speak())
        await soon(lambda: len(sent) > 3)
        before = engine.position
        await asyncio.to_thread(move.begin)
        assert await asyncio.to_thread(move.move, 3)
        reading = asyncio.create_task(engine.channels(["a"]))
        await asyncio.to_thread(move.finish)
        count = len(sent)
        await soon(lambda: len(sent) > count + 3 or speaking.done())
        is_done = True
        await speaking
        assert [channel.name for channel in await reading] == ["a"]
        assert received(listener) == sent
        assert (listener.renewals, listener.gaps) == (0, [])
        assert engine.position.epochs == before.epochs
        assert await logged(engine) == sent

    with_a_move(life)


def test_calls_fail_at_their_deadline_while_a_slot_moves(with_a_move: Any) -> None:
    """A move may take longer than a call; when it is given up, the same link is used again."""

    async def life(nodes: Nodes, move: SlotMove) -> None:
        engine, listener = await nodes.member("ann", "a")
        await engine.publish([message("m1")])
        [shard] = engine._shards
        link = shard.link.present
        await asyncio.to_thread(move.begin)
        outcomes = await asyncio.gather(
            engine.publish([message("m2")]),
            engine.publish([big(3)]),
            engine.channels(["a"]),
            engine.cluster.members("another"),
            engine.replay("ann", {"a": 0}, 100),
            return_exceptions=True,
        )
        assert all(isinstance(each, Unavailable) for each in outcomes), outcomes
        await asyncio.to_thread(move.cancel)
        await engine.publish([message("m4")])
        await soon(lambda: received(listener) == ["m1", "m4"])
        assert shard.link.present is link

    with_a_move(life, timeout_s=SHORT_S)


def test_a_big_message_waits_for_the_link_with_the_new_master(with_a_move: Any) -> None:
    """As a small one does: the link with the old master is broken, and there is no other one yet."""

    async def life(nodes: Nodes, _: SlotMove) -> None:
        engine, listener = await nodes.member("ann", "a")
        [shard] = engine._shards
        shard.link.move.begin()
        await shard.link.unlink()
        await engine.publish([big(1)])
        await soon(lambda: received(listener) == ["m1"])

    with_a_move(life)


def test_a_script_with_a_declared_key_that_exists_would_stop_half_way(with_a_move: Any) -> None:
    """So none is declared: the first key that is not at the old master ends the script, and nothing is undone."""

    async def life(nodes: Nodes, move: SlotMove) -> None:
        await nodes.node()
        before = await kept(move, "seq")
        await asyncio.to_thread(move.begin)
        answer = await asyncio.to_thread(move.source.cli, "EVAL", TWO_STEPS, "1", DECLARED)
        assert "non local key" in answer
        after = await kept(move, "seq")
        assert int(after) == int(before) + 1
        assert (await asyncio.to_thread(move.source.cli, "EVAL", TWO_STEPS, "1", PREFIX)).startswith(
            f"{SLOT} "
        )
        assert await kept(move, "seq") == after
        await asyncio.to_thread(move.cancel)

    with_a_move(life)


def test_a_script_that_follows_ask_would_replace_keys_that_have_not_moved(with_a_move: Any) -> None:
    """At the new master they look as if they never existed, and what is written there keeps them from moving."""

    async def life(nodes: Nodes, move: SlotMove) -> None:
        await nodes.node()
        known = await kept(move, "epoch")
        await asyncio.to_thread(move.begin)
        async with connection_to(move.target) as asking:
            assert await asked(asking, "ASKING") == b"OK"
            assert await asked(asking, "EVAL", TWO_STEPS, "1", DECLARED) == b"whole"
        assert known
        assert await kept(move, "epoch") == known
        with pytest.raises(AssertionError, match="BUSYKEY"):
            await asyncio.to_thread(move.finish)
        await asyncio.to_thread(move.cancel)

    with_a_move(life)


def test_nothing_is_lost_when_the_server_moves_a_slot_at_once(with_a_move: Any) -> None:
    """Valkey 9 and newer copy a slot while the old master serves it: calls wait only while the new one takes over."""

    async def life(nodes: Nodes, move: SlotMove) -> None:
        engine, listener = await nodes.member("ann", "a")
        speaker, _ = await nodes.node()
        await speaker.publish([message("m1")])
        before = engine.position
        if not await asyncio.to_thread(move.at_once):
            pytest.skip("This server cannot move a slot at once; Valkey 9 can.")
        await speaker.publish([message("m2")])
        await soon(lambda: received(listener) == ["m1", "m2"])
        assert (listener.renewals, listener.gaps) == (0, [])
        assert engine.position.epochs == before.epochs
        assert await logged(engine) == ["m1", "m2"]

    with_a_move(life)


def test_only_a_living_master_without_keys_has_given_its_slot_away(with_a_move: Any) -> None:
    """Otherwise acknowledged events may be missing, and a new log begins."""

    async def life(nodes: Nodes, move: SlotMove) -> None:
        engine, _ = await nodes.member("ann", "a")
        [shard] = engine._shards
        link, place = shard.link.present, shard._recovery._address
        assert link is not None
        assert not await place.has_moved(link.run_id)
        await asyncio.to_thread(move.begin)
        await asyncio.to_thread(move.finish)
        assert await place.has_moved(link.run_id)
        assert not await place.has_moved("the run id of a master that has ended")

    with_a_move(life)


@pytest.mark.parametrize(("up_s", "ahead_s", "is_kept"), [(0, 0, False), (3600, 0, True), (0, 3600, False)])
def test_the_log_goes_on_only_at_a_master_that_ran_before_the_move(
    with_a_move: Any, up_s: int, ahead_s: int, is_kept: bool
) -> None:
    """One that was started or promoted since may lack keys that it had been given, also if the clock was set back."""

    async def life(nodes: Nodes, _: SlotMove) -> None:
        engine, _listener = await nodes.member("ann", "a")
        [shard], link = engine._shards, link_of(engine)
        about = {"run": "another", "moved_from": link.run_id, "up_ms": 1000 * up_s, "shard": "1 of 1"}
        known = {"known_epoch": "", "known_seq": 0, "distrust": False, "candidate": "new"}
        if ahead_s:
            [node] = await link.command("SMEMBERS", f"{PREFIX}nodes")
            beat_ms = round((time.time() + ahead_s) * 1000)
            await link.command("HSET", f"{PREFIX}n:{node.decode()}", "beat", str(beat_ms))
        epoch, *_ = await link.call("", "", "hello", **about, **known)
        assert (epoch.decode() == shard.epoch) is is_kept

    with_a_move(life)


def test_calls_that_wait_for_a_move_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In number and in bytes; those that wait are made in their order."""
    monkeypatch.setattr(slot_move, "MAX_WAITING", 2)
    monkeypatch.setattr(slot_move, "MAX_WAITING_BYTES", 100)

    async def life() -> None:
        move, made = slot_move.SlotMove(), list[str]()
        until_s = asyncio.get_running_loop().time() + PATIENT_S

        async def call(name: str) -> None:
            made.append(name)

        move.begin()
        first = asyncio.create_task(move.outlast(partial(call, "first"), until_s, lambda: 60))
        await asyncio.sleep(0)
        with pytest.raises(slot_move.SlotMoving):
            await move.outlast(partial(call, "too big"), until_s, lambda: 41)
        second = asyncio.create_task(move.outlast(partial(call, "second"), until_s, lambda: 40))
        await asyncio.sleep(0)
        with pytest.raises(slot_move.SlotMoving):
            await move.outlast(partial(call, "one too many"), until_s, lambda: 0)
        assert made == []
        move.end()
        await asyncio.gather(first, second)
        assert made == ["first", "second"]

    asyncio.run(life())


def test_a_call_that_was_refused_on_its_way_counts_among_those_that_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When it was made no move was known."""
    monkeypatch.setattr(slot_move, "MAX_WAITING_BYTES", 100)

    async def life() -> None:
        move, made = slot_move.SlotMove(), list[str]()
        until_s = asyncio.get_running_loop().time() + PATIENT_S

        async def call() -> None:
            made.append("call")
            if len(made) == 1:
                move.begin()
                raise slot_move.SlotMoving("its slot moves")

        first = asyncio.create_task(move.outlast(call, until_s, lambda: 60))
        await asyncio.sleep(0)
        with pytest.raises(slot_move.SlotMoving, match="Too much waits"):
            await move.outlast(call, until_s, lambda: 41)
        move.end()
        await first
        assert made == ["call", "call"]

    asyncio.run(life())
