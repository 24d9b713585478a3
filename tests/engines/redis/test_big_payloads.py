"""Big payloads lie beside their records, and no script touches them."""

from collections import Counter
from typing import Any

import msgspec
import pytest
from tests.engines.conformance import delete, edit, message
from tests.engines.conformance.nodes import received
from tests.engines.redis.nodes import (
    BIG,
    PREFIX,
    READ_BYTES,
    Nodes,
    big,
    event_of,
    in_shards,
    published,
    replaced_for,
    sent_to_scripts,
)
from tests.redis_server import RedisServer
from tests.waiting import PATIENCE_S, soon

from channelstream.core.events import Message
from channelstream.engines.redis.engine import RedisEngine
from channelstream.engines.redis.event_parts import parts_of
from channelstream.errors import Unavailable


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


def payloads_in_flight(engine: RedisEngine) -> list[int]:
    """Record from now on how many payloads a node waits for, each time it asks for one."""
    counts: list[int] = []
    waiting: set[Any] = set()
    [shard] = engine._shards
    link: Any = shard.link.present
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


def test_a_message_after_an_edit_with_a_big_payload_is_a_duplicate(with_one_shard: Any) -> None:
    """The payload was published with the edit only; nodes stay linked."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.member("ann", "a")
        big_edit = edit("m1", b'"%b"' % (b"x" * BIG))
        [first], [late] = await engine.publish([big_edit]), await engine.publish([message("m1")])
        assert (first.duplicate, late.duplicate) == (False, True)
        await engine.catch_up([0])
        assert [each.event for each in recorder.entries[-1:]] == [big_edit]

    with_one_shard(life)
