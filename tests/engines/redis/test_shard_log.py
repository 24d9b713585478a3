"""What the logs in Redis keep: ages, gaps, deleted texts, evicted records."""

import re
from typing import Any

import pytest
from tests.engines.conformance import EMPTY, delete, edit, message, uuids
from tests.engines.redis.nodes import PREFIX, Nodes, big, replaced_for, said
from tests.redis_server import RedisServer
from tests.waiting import soon

from channelstream.core.events import Event, Message
from channelstream.core.log import PRIVATE
from channelstream.core.registry_limits import RegistryLimits
from channelstream.engines.members import Member
from channelstream.engines.redis import event_text, shard_log
from channelstream.errors import Unavailable
from channelstream.wire.channelstream import V07


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


def test_a_raised_age_prolongs_the_log_of_a_user(redis: RedisServer, with_one_shard: Any) -> None:
    """Who connects again, also without further messages."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.member("ann", "a")
        await engine.publish([message("p1", channel=None, only=frozenset({"ann"}))])
        nodes.limits = RegistryLimits(log_age_s=100_000.0)
        engine, _ = await nodes.node()
        assert await engine.connect(Member("another of ann", "ann", V07), EMPTY, {}) is not None
        logs = [f"{PREFIX}{kind}:ann" for kind in ("ul", "ur", "ux")]
        assert all(int(redis.cli("PTTL", log)) > 90_000_000 for log in logs)

    with_one_shard(life)


def test_a_user_who_connects_again_has_the_bounds_of_changed_options(with_one_shard: Any) -> None:
    """As the other engines: each gives the users that it knows at a start the bounds of that start."""

    async def life(nodes: Nodes) -> None:
        await nodes.member("ann", "a")
        nodes.limits = RegistryLimits(user_log_events=2)
        engine, _ = await nodes.node()
        assert await engine.connect(Member("another of ann", "ann", V07), EMPTY, {}) is not None
        await engine.publish([message(f"p{n}", channel=None, only=frozenset({"ann"})) for n in range(5)])
        assert (await engine.replay("ann", {PRIVATE: 0}, 10)).lost == {PRIVATE}
        found = await engine.replay("ann", {PRIVATE: engine.position.offsets[0] - 2}, 10)
        assert [each.event.uuid for each in found.entries] == ["p3", "p4"]

    with_one_shard(life)


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


@pytest.mark.parametrize("change", [edit("m1", b'"newer"'), delete("m1")], ids=["edited", "deleted"])
def test_an_entry_superseded_during_a_read_is_read_again(with_one_shard: Any, change: Event) -> None:
    """The payload that a script's answer refers to may be gone when the node reads it."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.member("ann", "a", store_history=True)
        other, _ = await nodes.node()
        await other.publish([big(1), message("m2")])
        changes = [change]
        [shard] = engine._shards
        assert shard.link.present is not None
        command = shard.link.present.command

        async def later(*parts: Any) -> Any:
            while changes:
                await other.publish([changes.pop()])
            return await command(*parts)

        shard.link.present.command = later  # type: ignore[method-assign]
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


@pytest.mark.parametrize("big_bytes", [event_text.BIG_BYTES, 1], ids=["inside", "beside"])
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

    monkeypatch.setattr(event_text, "BIG_BYTES", big_bytes)
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


def test_pieces_of_one_replay_are_of_one_log(
    redis: RedisServer, with_one_shard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a new log begins between two of them, the replay fails: offsets of the former one mean nothing in it."""
    monkeypatch.setattr(shard_log, "CHUNK", 1)

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.member("ann", "a", "b")
        await engine.publish([message("m")])
        assert uuids(await engine.replay("ann", {"a": 0, "b": 0}, 9)) == ["m"]
        [shard] = engine._shards
        read = shard.log.read

        async def replaced(*arguments: Any, **options: Any) -> Any:
            found = await read(*arguments, **options)
            redis.cli("HSET", f"{PREFIX}log", "epoch", "another")
            shard.client._state.epoch = "another"
            return found

        shard.log.read = replaced  # type: ignore[method-assign]
        with pytest.raises(Unavailable):
            await engine.replay("ann", {"a": 0, "b": 0}, 9)

    with_one_shard(life)


@pytest.mark.parametrize("read", ["head", "channels_at"])
def test_a_position_is_of_the_log_that_was_read(redis: RedisServer, with_one_shard: Any, read: str) -> None:
    """Not of one that begins before the answer is used: in that its offset would promise events that nobody was sent."""

    async def life(nodes: Nodes) -> None:
        engine, listener = await nodes.member("ann", "a")
        await engine.publish([message("m")])
        [shard] = engine._shards
        before, call = engine.position.epochs, shard.client.call

        async def replaced(operation: str, **arguments: Any) -> Any:
            answer = await call(operation, **arguments)
            if operation in ("head", "channels"):
                redis.cli("FLUSHALL")
                await soon(lambda: listener.renewals == 1)
            return answer

        shard.client.call = replaced  # type: ignore[method-assign]
        found: Any = await getattr(engine, read)(["a"])
        position = found[1] if read == "channels_at" else found
        assert (position.epochs, position.offsets) == (before, (1,))
        assert engine.position.epochs != before

    with_one_shard(life)
