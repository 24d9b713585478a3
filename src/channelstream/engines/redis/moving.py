"""How a node moves to another process: it stays the same node in Redis, with the same name, registrations and subscriptions.

For Redis and the other nodes it is a node whose links were broken for a moment. What was published meanwhile is read from
the log when the links are there again (`shard_recovery.py`), and registrations that differ are repaired (`reconciler.py`).
While no link is there, another node that asks for one of its connections gets no answer, and its caller repeats the call.
"""

import msgspec
from msgspec import Struct

from channelstream.engines.movable import OTHER_ENGINE
from channelstream.engines.redis.moved_shard import MovedShard
from channelstream.engines.redis.ownership import Ownership
from channelstream.engines.redis.shard_state import NodeContext
from channelstream.engines.redis.shards import Shards
from channelstream.errors import CannotHandOver


class MovedNode(Struct, frozen=True, tag="redis", tag_field="engine"):
    """A node on its way.

    Attributes:
        registrations: the shards that register each connection, as in `RegistrationIndex.masks`.
    """

    name: str
    shards: list[MovedShard]
    registrations: dict[str, int]


def record_of(node: NodeContext, shards: Shards, ownership: Ownership) -> bytes:
    """Return the record of a node that has no links."""
    registrations = ownership.registrations
    moved = [shard.moved(sorted(registrations.unconfirmed[shard.index])) for shard in shards]
    return msgspec.msgpack.encode(MovedNode(node.name, moved, registrations.masks()))


def take_over(record: bytes, node: NodeContext, shards: Shards, ownership: Ownership) -> None:
    """Become the node of a record.

    Raises:
        CannotHandOver: it is none of this engine, or has another number of shards.
    """
    try:
        moved = msgspec.msgpack.decode(record, type=MovedNode)
        pairs = list(zip(shards, moved.shards, strict=True))
    except ValueError as error:
        raise CannotHandOver(OTHER_ENGINE) from error
    node.name = moved.name
    ownership.registrations.restore(moved.registrations)
    for shard, each in pairs:
        shard.restore(each)
        ownership.registrations.unconfirmed[shard.index].update(each.unconfirmed)
