"""How much is done: enough for figures that can be compared, or just enough to see that every part works."""

from msgspec import Struct

from channelstream.core.position import MAX_SHARDS


class Sizes(Struct, frozen=True):
    """What all parts do.

    Attributes:
        rounds: each row has the medians of so many.
        calls: calls one after the other, and calls of each kind.
        call_channels: channels of each kind, for the calls; all shards should have some.
        shards: of the log, in clusters of three masters: their processor time together does not depend on how many they are.
        fanout_messages: to `fanout_clients`.
        crowd: clients of the nodes that are compared with one node.
        crowd_messages: to all of the crowd, flat out.
        paced_s: seconds of messages at a steady pace to all of the crowd.
        members: sizes of the channels that are joined.
        joins: joins of each of them in one round.
        returning: connections that are counted anew after a flush.
        channels: of one connection, and users of one message.
        histories: channels with full histories.
        big_bytes: of a big message.
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
    shards=(1, 3, MAX_SHARDS),
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
