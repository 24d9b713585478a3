"""How much of a node each owner uses: the hub counts what is added and removed."""

from hypothesis import given
from hypothesis import strategies as st

from channelstream.core.connection import Connection
from channelstream.core.hub import Hub
from channelstream.core.position import ReadRange
from channelstream.core.usage import Usage
from channelstream.wire.channelstream import V07
from channelstream.wire.protocols import PROTOCOLS

NAMES = ["a1", "a2", "b1", "b2"]
"""Each is owned by its first letter."""


def first_letter(key: str) -> str:
    return key[0]


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from([None, *NAMES])), max_size=30))
def test_the_counts_are_those_of_what_is_there(steps: list[tuple[str, str | None]]) -> None:
    """A step adds a connection or removes it, or lets it join a channel or leave it."""
    hub = Hub(PROTOCOLS.formats, lambda: None, usage=Usage(first_letter))
    for conn_id, channel in steps:
        connection = hub.connections.get(conn_id)
        if connection is None:
            hub.add(Connection(conn_id, "ann", V07, hub.offsets, 0.0))
        elif channel is None:
            for name in list(connection.channels):
                hub.unsubscribe(connection, name)
            hub.remove(connection)
        elif channel in connection.channels:
            hub.unsubscribe(connection, channel)
        else:
            hub.subscribe(connection, channel, ReadRange.of((0,)))
        for owner in "ab":
            assert hub.usage.connections[owner] == sum(each[0] == owner for each in hub.connections)
            assert hub.usage.channels[owner] == sum(name[0] == owner for name in hub.channels)


def test_by_default_all_is_one_owner_s() -> None:
    hub = Hub(PROTOCOLS.formats, lambda: None)
    hub.add(Connection("c", "ann", V07, hub.offsets, 0.0))
    assert sum(hub.usage.connections.values()) == 1
