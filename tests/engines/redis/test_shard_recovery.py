"""A node that was cut off reads what it missed: in order, and in bounded steps."""

import asyncio
from typing import Any

import pytest
from tests.engines.conformance import delete, edit, message
from tests.engines.conformance.nodes import received
from tests.engines.redis.nodes import BIG, READ_BYTES, Nodes, big, cut, enter, event_of, published
from tests.redis_server import RedisServer
from tests.waiting import soon

from channelstream.engines.redis import event_text
from channelstream.engines.redis import shard_recovery as shard_recovery_module
from channelstream.engines.redis.link import Link
from channelstream.engines.redis.shard_client import CHUNK


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


def test_nothing_newer_is_delivered_before_a_gap_is_healed(with_one_shard: Any) -> None:
    """Events behind a gap would move positions past the missing ones."""

    async def life(nodes: Nodes) -> None:
        engine, listener = await nodes.member("ann", "a", "b")
        speaker, _ = await nodes.node()
        await speaker.publish([message("m0"), message("m1", channel="b")])
        await soon(lambda: len(received(listener)) == 2)
        [shard] = engine._shards
        assert shard.link.present is not None
        take = shard.link.present.subscription._buffer_or_dispatch

        def forgetful(name: bytes, data: bytes) -> None:
            if b'"m2"' not in data:
                take(name, data)

        shard.link.present.subscription._buffer_or_dispatch = forgetful  # type: ignore[method-assign]
        await speaker.publish([message("m2"), message("m3"), message("m4", channel="b")])
        await soon(lambda: len(received(listener)) == 5)
        assert received(listener) == ["m0", "m1", "m2", "m3", "m4"]

    with_one_shard(life)


def test_a_node_that_was_cut_off_receives_the_current_forms(with_nodes: Any) -> None:
    """An entry superseded meanwhile is no gap: no loss is reported."""

    async def life(nodes: Nodes) -> None:
        listener, recorder = await nodes.member("ann", "a")
        other, _ = await nodes.node()
        shard = listener._shards.at("a")
        await other.publish([message("m0")])
        await soon(lambda: received(recorder) == ["m0"])
        assert shard.link.present is not None
        shard.link.present.abandon("the test cuts it")
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
@pytest.mark.parametrize("big_bytes", [event_text.BIG_BYTES, 1], ids=["inside", "beside"])
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
    monkeypatch.setattr(event_text, "BIG_BYTES", big_bytes)
    with_one_shard(life)
