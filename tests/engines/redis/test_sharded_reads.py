"""Reads of the directory: what is left out, or was in the first answer, costs no further call."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.engines.redis.nodes import Nodes

from channelstream.engines.redis.engine import RedisEngine


def noted_reads(engine: RedisEngine) -> Counter[str]:
    """Count from now on how often each list is read, and each hash."""
    reads = Counter[str]()

    def note(shard: Any) -> None:
        read_each, fields = shard.client.read_each, shard.scans.fields

        async def noted_each(operation: str, names: Sequence[str], **options: bool) -> list[Any]:
            reads[operation] += 1
            return list(await read_each(operation, names, **options))

        async def noted_fields(kind: str, name: str) -> dict[bytes, bytes]:
            reads[f"all {kind}"] += 1
            return dict(await fields(kind, name))

        shard.client.read_each, shard.scans.fields = noted_each, noted_fields

    for shard in engine._shards:
        note(shard)
    return reads


def test_what_is_left_out_is_not_read(with_nodes: Any) -> None:
    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.member("ann", "a")
        reads = noted_reads(engine)
        [channel] = await engine.channels(["a"], with_users=False)
        assert (channel.users, channel.user_count) == ({}, 1)
        [user] = await engine.users(["ann"], with_channels=False)
        assert user.channels == set()
        assert reads == {"channels": 1, "users": 1}

    with_nodes(life)


def test_what_an_answer_has_is_not_read_again(with_nodes: Any) -> None:
    """The channels of a user are in any shard, so several are asked."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.member("ann", "a")
        reads = noted_reads(engine)
        [channel], [user] = await engine.channels(["a"]), await engine.users(["ann"])
        assert (channel.users, user.channels) == ({"ann": 1}, {"a"})
        others = {} if nodes.shards == 1 else {"user_channels": nodes.shards}
        assert reads == {"channels": 1, "users": 1, **others}

    with_nodes(life)
