"""The snapshot: its golden bytes, and how its parts are cut and joined."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.engines.conformance import Recorder, Setup, edit, message, private
from tests.engines.test_memory import memory_engine

from channelstream.core.connection import Connection
from channelstream.core.entry import Entry
from channelstream.core.hub import Hub
from channelstream.core.nonces import Nonces
from channelstream.core.position import ReadRange
from channelstream.core.user import UserUpdate
from channelstream.engines.members import Member
from channelstream.engines.redis.moved_shard import MovedShard
from channelstream.engines.redis.moving import MovedNode
from channelstream.service.moving import OutgoingConnections
from channelstream.service.revocations import Revocation
from channelstream.transports.moving import StreamKind, StreamRecord
from channelstream.upgrade import snapshot
from channelstream.upgrade.snapshot import (
    SNAPSHOT_VERSION,
    Records,
    cut,
    encode,
    read_nonces,
    read_revocations,
    read_streams,
    with_descriptors,
)
from channelstream.wire.channelstream import SEED, V07
from channelstream.wire.protocols import PROTOCOLS
from channelstream.wire.unfinished import Unfinished

GOLDEN_VERSION = 7
"""The version of the bytes below. A change of one of them raises `SNAPSHOT_VERSION`."""


async def each(records: list[bytes]) -> AsyncIterator[bytes]:
    for record in records:
        yield record


async def all_of(parts: AsyncIterator[Any]) -> list[Any]:
    return [part async for part in parts]


def test_the_version_is_that_of_the_golden_bytes() -> None:
    assert SNAPSHOT_VERSION == GOLDEN_VERSION


def test_the_bytes_of_streams_stay() -> None:
    begun = Unfinished(b"\x81", (1, True, False, b"mask", 3), (1, b"he", False))
    records = [
        StreamRecord(StreamKind.SSE, "c1", None),
        StreamRecord(StreamKind.WEBSOCKET, "c2", begun, None, b"st"),
    ]
    golden = bytes.fromhex(
        "92 95 03 a2 6331 c0 c0 c4 00 95 01 a2 6332 93 c4 01 81 95 01 c3 c2 c4 04 6d61736b 03 93 01 c4 02 6865 c2 c0"
        "c4 02 7374"
    )
    assert encode(records) == golden
    assert read_streams(golden) == records


def test_the_bytes_of_nonces_stay() -> None:
    nonces = Nonces(59, 60)
    nonces.add("web", "a-nonce", 30, 30)
    rows = list(nonces.rows(5))
    golden = bytes.fromhex("92 a4 73686f70 91 93 a3 776562 2d 91 a7 612d6e6f6e6365")
    assert encode(("shop", rows)) == golden
    assert read_nonces(golden) == ("shop", rows)


def test_the_bytes_of_revocations_stay() -> None:
    revocations = [Revocation(True, "ann", 1.0, 2.0)]
    golden = bytes.fromhex("91 94 c3 a3 616e6e cb 3ff0000000000000 cb 4000000000000000")
    assert encode(revocations) == golden
    assert read_revocations(golden) == revocations


def test_the_bytes_of_connections_stay() -> None:
    hub = Hub(PROTOCOLS.formats, lambda: None)
    connection = Connection("c1", "ann", V07, (7,), 103.0)
    connection.opened_by("::1", "curl", 2.0)
    hub.add(connection)
    hub.subscribe(connection, "a", ReadRange(5, 4))
    connection.note_sent_apart([Entry(6, ("e",), 0.0, message("m1"), 0, (7,))])
    outgoing = OutgoingConnections(hub)
    changes, positions = list(outgoing.changes()), list(outgoing.positions(("e",), 100.0))
    hub.unsubscribe(connection, "a")
    hub.remove(connection)
    assert [*changes, *positions, *outgoing.changes()] == [
        bytes.fromhex(
            "97 aa 636f6e6e656374696f6e a2 6331 a3 616e6e 92 a3 763037 00 81 a1 61 92 05 04 92 07 07"
            "93 a3 3a3a31 a4 6375726c cb 4000000000000000"
        ),
        bytes.fromhex("93 a4 6e6f6465 91 00 91 a1 65"),
        bytes.fromhex("95 a8 706f736974696f6e a2 6331 91 07 cb 4008000000000000 81 a1 61 07"),
        bytes.fromhex("92 a5 656e646564 a2 6331"),
    ]


def test_the_bytes_of_states_stay() -> None:
    """Of the memory engine: one record for each table that has rows."""

    async def state() -> list[Any]:
        engine = memory_engine(Setup())
        await engine.start(Recorder())
        await engine.connect(Member("c1", "ann", SEED), UserUpdate({"age": 7}, {}, ["age"]))
        await engine.join(Member("c1", "ann", SEED), {"a": {"store_history": True}})
        await engine.publish([message("m1"), edit("m1"), private("p1", "ann")])
        copied, rest = await all_of(engine.copy()), await all_of(engine.hand_over())
        return [msgspec.msgpack.decode(record) for record in copied + rest]

    begin, events, history, private_events, channels, users, meta = asyncio.run(state())
    assert begin == ["meta", [["epoch", "first"], ["at", 50.0]]]
    assert meta == ["meta", [["seq", 4]]]
    [[name, _, settings, *floors]] = channels[1]
    assert (channels[0], name, floors) == ("channels", "a", [0, 1, None])
    assert b'"store_history":true' in settings
    assert users == ["users", [["ann", "id0", b'{"age":7}', b'["age"]', 0, None]]]
    assert (events[0], private_events[0]) == ("events", "events")
    assert [row[:5] for row in events[1] + private_events[1]] == [
        [1, 50.0, "a", None, "presence"],
        [2, 50.0, "a", None, "message"],
        [3, 50.0, "a", None, "edit"],
        [4, 50.0, None, "ann", "message"],
    ]
    assert history[0] == "history"
    assert [row[:5] for row in history[1]] == [["a", "m1", 2, 50.0, "message"]]


def test_the_bytes_of_nodes_stay() -> None:
    """Of the Redis engine."""
    node = MovedNode("n1", [MovedShard("e", 7, False, {"#c:a": 5}, ["ann"], ["c1"])], {"c1": 1})
    golden = bytes.fromhex(
        "84 a6 656e67696e65 a5 7265646973 a4 6e616d65 a2 6e31 a6 736861726473 91 96 a1 65 07 c2 81 a4 23633a61 05"
        "91 a3 616e6e 91 a2 6331 ad 726567697374726174696f6e73 81 a2 6331 01"
    )
    assert msgspec.msgpack.encode(node) == golden
    assert msgspec.msgpack.decode(golden, type=MovedNode) == node


@given(st.lists(st.binary(max_size=40), max_size=10), st.integers(1, 30))
def test_records_of_any_length_are_joined_again(records: list[bytes], part_bytes: int) -> None:
    """No part is longer than a part may be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot, "PART_BYTES", part_bytes)
        parts = asyncio.run(all_of(cut("state", each(records))))
    assert all(len(part.body) <= part_bytes for part in parts)
    taken = Records()
    assert [record for part in parts for record in taken.take(part.body)] == records
    assert taken.is_whole


def test_an_incomplete_record_is_noticed() -> None:
    """Also that nothing was taken."""
    [part] = asyncio.run(all_of(cut("state", each([b"whole", b"half"]))))
    taken = Records()
    assert not taken.is_whole
    assert taken.take(part.body[:-1]) == [b"whole"]
    assert not taken.is_whole
    assert taken.take(part.body[-1:]) == [b"half"]
    assert taken.is_whole


def test_descriptors_stay_with_their_records() -> None:
    """In parts that are full by their descriptors, or by their bytes."""
    many = [(number, bytes([number % 256]), 1) for number in range(300)]
    assert [len(part.descriptors) for part in with_descriptors("http", many)] == [250, 50]
    large = [(number, b"", snapshot.PART_BYTES // 2 + 1) for number in range(3)]
    assert [part.descriptors for part in with_descriptors("http", large)] == [(0,), (1,), (2,)]
    assert list(with_descriptors("http", [])) == []
