"""What a node knows about a shard, on its way to another process."""

from msgspec import Struct


class MovedShard(Struct, frozen=True, array_like=True):
    """What a node knows about a shard.

    Attributes:
        subscribed: as in `ShardSubscriber`.
        pending_state: as in `Shard`.
        unconfirmed: as in `RegistrationIndex`.
    """

    epoch: str
    offset: int
    needs_new_epoch: bool
    subscribed: dict[str, int]
    pending_state: list[str]
    unconfirmed: list[str]
