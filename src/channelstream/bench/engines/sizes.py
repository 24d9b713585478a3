"""The amount of work: enough for comparable figures, or just enough to test every part."""

from msgspec import Struct

from channelstream.core.position import MAX_SHARDS


class Sizes(Struct, frozen=True):
    """The amount of work of all parts.

    Attributes:
        rounds: number of rounds; each row has their medians.
        calls: number of sequential calls, and of calls of each kind.
        call_channels: channels of each kind, for the calls; enough for all shards.
        shards: shards of the log in clusters of three masters. The masters' total CPU does not depend on their number.
        fanout_messages: messages to `fanout_clients`.
        crowd: clients, for the comparison of several nodes with one.
        crowd_messages: messages to the crowd, as fast as possible.
        paced_s: seconds of messages at a fixed rate to the crowd.
        members: members of the channels that are joined.
        joins: joins of each channel in one round.
        returning: connections that are registered again after a flush.
        channels: channels of one connection, and users of one message.
        histories: channels with full histories.
        big_bytes: length of a big message.
    """

    rounds: int
    calls: int
    call_channels: int
    shards: tuple[int, ...]
    fanout_clients: int
    fanout_messages: int
    crowd: int
    crowd_messages: int
    paced_s: float
    members: tuple[int, ...]
    joins: int
    returning: int
    channels: int
    histories: int
    big_bytes: int


FULL = Sizes(
    rounds=3,
    calls=1500,
    call_channels=50,
    shards=(3, MAX_SHARDS),
    fanout_clients=200,
    fanout_messages=2000,
    crowd=10_000,
    crowd_messages=800,
    paced_s=4.0,
    members=(10, 1000, 10_000, 100_000),
    joins=100,
    returning=5000,
    channels=10_000,
    histories=200,
    big_bytes=4_000_000,
)
QUICK = Sizes(
    rounds=1,
    calls=40,
    call_channels=6,
    shards=(MAX_SHARDS,),
    fanout_clients=10,
    fanout_messages=40,
    crowd=40,
    crowd_messages=20,
    paced_s=0.5,
    members=(10, 100),
    joins=10,
    returning=100,
    channels=50,
    histories=2,
    big_bytes=20_000,
)
