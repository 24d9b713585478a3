"""What the parts of a node know about one shard, and the values that all shards of a node share."""

from collections.abc import Callable
from dataclasses import dataclass

from channelstream.engines.base import Clock

PAYLOAD_PREFIX = b"payload "
"""Prefix of a published payload; its token follows."""


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """Timings of a node in Redis.

    Attributes:
        timeout_s: how long an answer of Redis may take before Redis counts as out of reach.
        lease_s: how long the connections of a dead node stay registered.
    """

    timeout_s: float = 5.0
    lease_s: float = 10.0


@dataclass(slots=True)
class NodeContext:
    """The values that all shards of a node share.

    Attributes:
        name: the id of the node in Redis; it changes only before the first link, if the node moves to this process.
        label: the machine and the process, for people.
        shards: the number of shards of the log.
        new_id: makes tokens.
        new_epoch: makes the candidate for a new epoch.
        clock: for the ages of entries; None means the clock of Redis, which all nodes share.
        facts: what the script needs to know of the outbox; empty if no facts are wanted.
    """

    name: str
    label: str
    shards: int
    settings: RedisSettings
    new_id: Callable[[], str]
    new_epoch: Callable[[], str]
    clock: Clock | None
    facts: bytes = b""


def shard_label(index: int, shards: int) -> str:
    return "Redis" if shards == 1 else f"shard {index + 1} of {shards} in Redis"


@dataclass(slots=True)
class ShardState:
    """The log of one shard, as far as this node has received it.

    Attributes:
        label: the name of the shard in log lines.
        epoch: the identity of the log; empty before the first link.
        offset: every event up to this offset that concerns this node was delivered, or reported as lost.
        age_s: how old the log was at the first link, in seconds; a log of an older version counts as very old.
        needs_new_epoch: an event at or before `offset` was missed, so that no position is valid any more.
    """

    index: int
    label: str
    epoch: str = ""
    offset: int = 0
    age_s: float = 0.0
    needs_new_epoch: bool = False
