"""What a node reads of its engine before it takes the work of another process over."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from channelstream.core.connection import Connection
from channelstream.core.hub import Hub
from channelstream.core.log import PRIVATE
from channelstream.core.position import ReadRange, shard_of
from channelstream.engines.time_series import SERIES_RECORDS, LocalTimeSeries, Record
from channelstream.errors import CannotHandOver, Unavailable
from channelstream.service.first_reads import LOOKED_AT, read_first
from channelstream.wire.channelstream import V07
from channelstream.wire.protocols import PROTOCOLS

SHARDS = 3


class ReadSeries(LocalTimeSeries):
    """Records by time that note how many of them are read at once."""

    def __init__(self) -> None:
        super().__init__()
        self.limits: list[int] = []

    async def read(self, series: str, since_s: float, limit: int = SERIES_RECORDS) -> list[Record]:
        self.limits.append(limit)
        return await super().read(series, since_s, limit)


class ReadEngine:
    """An engine out of reach, or one that notes what is read of it."""

    def __init__(self, *, is_reachable: bool = True) -> None:
        self.time_series = ReadSeries()
        self.read: list[tuple[str, Mapping[str, int]]] = []
        self.users_read: list[str] = []
        self._is_reachable = is_reachable

    async def replay(self, user: str, from_offsets: Mapping[str, int], limit: int) -> None:
        if not self._is_reachable:
            raise Unavailable("Redis is out of reach; try again later.")
        assert limit <= 1
        self.read.append((user, from_offsets))

    async def users(self, names: list[str], with_channels: bool) -> None:
        assert not with_channels
        self.users_read += names


def hub_of(*members: tuple[str, str]) -> Hub:
    """Return a hub of a node on several shards, with a connection of a user in a channel for each of these."""
    hub = Hub(PROTOCOLS.formats, lambda: None)
    hub.offsets = (9,) * SHARDS
    for user, channel in members:
        connection = Connection(f"of {user}", user, V07, hub.offsets, None)
        hub.add(connection)
        hub.subscribe(connection, channel, ReadRange.of(5))
    return hub


def read(engine: Any, hub: Hub) -> None:
    asyncio.run(read_first(engine, hub))


def test_each_shard_is_read() -> None:
    """One channel and one user of each, from where a member may read; the others would take long."""
    engine = ReadEngine()
    read(engine, hub_of(*((f"user{number}", f"channel{number}") for number in range(30))))
    assert engine.read[0] == ("", {})
    for user, starts in engine.read[1:]:
        assert starts.pop(PRIVATE) == 9  # type: ignore[attr-defined]
        assert sorted(shard_of(name, SHARDS) for name in starts) == [0, 1, 2]
        assert set(starts.values()) == {5}
        assert user in engine.users_read
    assert sorted(shard_of(name, SHARDS) for name in engine.users_read) == [0, 1, 2]
    assert engine.time_series.limits == [1]


def test_a_node_without_connections_reads_all_shards() -> None:
    engine = ReadEngine()
    read(engine, hub_of())
    assert (engine.read, engine.users_read) == ([("", {})], [])


def test_a_shard_that_few_channels_have_is_not_looked_for_without_end() -> None:
    """They may be very many, and calls wait."""
    engine, names = ReadEngine(), [f"c{number}" for number in range(9 * LOOKED_AT)]
    of_one = [name for name in names if shard_of(name, SHARDS) == 0][: LOOKED_AT + 1]
    other = next(name for name in names if shard_of(name, SHARDS) == 1)
    read(engine, hub_of(*(("ann", name) for name in (*of_one, other))))
    assert all(other not in starts for _, starts in engine.read)


def test_an_engine_out_of_reach_is_refused() -> None:
    with pytest.raises(CannotHandOver, match=r"cannot read the engine.*Redis is out of reach"):
        read(ReadEngine(is_reachable=False), hub_of())


def test_connections_may_leave_meanwhile() -> None:
    """Their clients reconnect at other nodes, which take them over: that is no reason to refuse an upgrade."""
    hub = hub_of(*((f"user{number}", f"channel{number}") for number in range(SHARDS)))

    class Emptying(ReadEngine):
        async def replay(self, user: str, from_offsets: Mapping[str, int], limit: int) -> None:
            await super().replay(user, from_offsets, limit)
            for connection in list(hub.connections.values()):
                for name in list(connection.channels):
                    hub.unsubscribe(connection, name)
                hub.remove(connection)

    engine = Emptying()
    read(engine, hub)
    assert len(engine.users_read) == len(engine.read) - 1 > 0
