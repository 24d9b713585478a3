"""Batches: one node, and one encoding, for everyone who got the same events."""

import gc
import json
import sys

import pytest

from channelstream.core.batch import DISCARD, Batch, BufferBatch
from channelstream.core.entry import Entry
from channelstream.core.events import Message
from channelstream.core.format import Format
from channelstream.wire.channelstream import V07
from channelstream.wire.framing import Framing
from channelstream.wire.protocols import PROTOCOLS


def entry(offset: int) -> Entry:
    event = Message(uuid=f"m{offset}", channel="a", user="ann", payload=b"1", timestamp="t")
    return Entry(offset, ("e",), 0.0, event)


ONE, TWO, THREE = entry(1), entry(2), entry(3)


def test_the_same_events_share_a_batch() -> None:
    """The same continuation is the same object, any other is another."""
    root = Batch()
    assert root.append(ONE).append(TWO) is root.append(ONE).append(TWO)
    assert root.append(TWO) is not root.append(ONE).append(TWO)


def test_a_batch_holds_its_events_in_the_order_they_came() -> None:
    """The root has none, every node those of its parent and its own."""
    root = Batch()
    assert root.entries() == []
    assert root.append(ONE).append(TWO).append(THREE).entries() == [ONE, TWO, THREE]


def test_a_root_forgets_the_batches_of_a_tick() -> None:
    """After that the same event starts a new batch, and the old one keeps its events."""
    root = Batch()
    old = root.append(ONE)
    root.forget()
    assert root.append(ONE) is not old
    assert old.entries() == [ONE]


def test_forgotten_batches_are_freed_without_the_garbage_collector() -> None:
    """However many grew from one another, on however many branches, nothing refers to their events."""
    root = Batch()
    events = [entry(number) for number in range(2000)]
    before = [sys.getrefcount(each) for each in events]
    gc.disable()
    try:
        for start in (0, 1, 2):
            batch = root
            for each in events[start:]:
                batch = batch.append(each)
        del batch, each
        root.forget()
        assert [sys.getrefcount(each) for each in events] == before
    finally:
        gc.enable()


@pytest.mark.parametrize("format_", PROTOCOLS.formats)
def test_a_batch_is_encoded_once_per_format(format_: Format) -> None:
    """The second call returns the same bytes, and another format has its own: those of two framings may be equal."""
    batch = Batch().append(ONE).append(TWO)
    data = batch.encoded(format_)
    assert batch.encoded(format_) is data
    others = [batch.encoded(other) for other in PROTOCOLS.formats if other is not format_]
    assert all(other is not data for other in others)


def test_a_batch_of_several_events_is_one_list() -> None:
    """Events that travel together are one JSON list, in order."""
    data = Batch().append(ONE).append(TWO).encoded(PROTOCOLS.format_of(V07, Framing.POLL))
    assert [item["uuid"] for item in json.loads(data)] == ["m1", "m2"]


def test_an_event_stream_block_carries_the_last_position() -> None:
    """A client that has read the block has received everything up to its last event."""
    data = Batch().append(ONE).append(TWO).encoded(PROTOCOLS.format_of(V07, Framing.SSE))
    assert data.startswith(b"id: e-2\n")


def test_the_discard_batch_keeps_nothing() -> None:
    """A connection without a stream discards all events."""
    assert DISCARD.append(ONE) is DISCARD
    assert DISCARD.entries() == []


def test_a_buffer_batch_keeps_events_up_to_its_limit() -> None:
    """Events wait in the order they came."""
    buffer = BufferBatch(2)
    assert buffer.append(ONE) is buffer
    assert buffer.append(TWO) is buffer
    assert (buffer.buffered, buffer.overflowed) == ([ONE, TWO], False)


def test_a_buffer_batch_that_overflows_keeps_nothing() -> None:
    """One event beyond its limit: it drops all and keeps no later one."""
    buffer = BufferBatch(1)
    buffer.append(ONE)
    for later in (TWO, THREE):
        assert buffer.append(later) is buffer
        assert (buffer.buffered, buffer.overflowed) == ([], True)


def test_a_buffer_batch_can_be_reset() -> None:
    """After a reset it buffers events again and has not overflowed."""
    buffer = BufferBatch(1)
    buffer.append(ONE)
    buffer.append(TWO)
    buffer.reset(7)
    buffer.append(THREE)
    assert (buffer.buffered, buffer.overflowed) == ([THREE], False)


def test_a_buffer_batch_marked_as_overflowed_keeps_nothing() -> None:
    """Waiting for a slow client costs no memory."""
    buffer = BufferBatch(5)
    buffer.append(ONE)
    buffer.overflow()
    buffer.append(TWO)
    assert (buffer.buffered, buffer.overflowed) == ([], True)
