"""The flush: slices, very large batches, and what is counted of them."""

import gc
import json
from collections.abc import Sequence
from typing import Any

import pytest
from tests.core.hub_bench import Bench, deletion, fail

from channelstream.core import batch, changes, rounds
from channelstream.core.batch import Batch, BufferBatch
from channelstream.core.entry import Entry
from channelstream.core.events import Message, MessageDeleted, MessageEdited
from channelstream.core.rounds import SLICE
from channelstream.wire.framing import Framing


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_writes_are_counted(bench: Bench) -> None:
    """One for each connection and round, whatever the number of events."""
    for _ in range(3):
        bench.member("ann", "a")
    bench.say("a")
    bench.say("a")
    bench.hub.flush()
    bench.say("a")
    bench.hub.flush()
    assert bench.hub.writes == 6


def test_events_and_bytes_are_counted_as_they_are_written(bench: Bench) -> None:
    """By each recipient of each batch; not those of a write that fails, nor what waits."""
    tapes = [bench.member(user, "a")[1] for user in ("ann", "dan", "bob", "cid")]
    bench.say("a")
    bench.say(None, only=frozenset({"bob"}))
    bench.say("a", exclude=frozenset({"bob"}))
    assert (bench.hub.written.events, bench.hub.written.size) == (0, 0)
    tapes[3].on_write = fail
    with pytest.raises(RuntimeError, match="a bug"):
        bench.flush_all()
    bench.flush_all()
    written = [data for tape in tapes[:3] for data in tape.written]
    assert (bench.hub.written.events, bench.hub.written.size) == (6, sum(map(len, written)))


@pytest.mark.parametrize("first", ["left", "stayed"])
def test_a_batch_of_which_nothing_is_sent_counts_nothing(bench: Bench, first: str) -> None:
    """As that of one who has left before the deletion; before one that is sent, and after it."""
    members = {"left": "a", "stayed": "b"}
    order = [first, *(members.keys() - {first})]
    found = {user: bench.member(user, members[user]) for user in order}
    for user in order:
        bench.say(members[user])
    deleted = "1" if first == "left" else "2"
    bench.hub.unsubscribe(found["left"][0], "a")
    bench.deliver(deletion(deleted))
    bench.hub.flush()
    [data] = [data for _, tape in found.values() for data in tape.written]
    assert (bench.hub.written.events, bench.hub.written.size) == (1, len(data))


def test_the_events_of_a_part_of_a_very_large_batch_are_counted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the round that writes them."""
    monkeypatch.setattr(batch, "BATCH_SIZE", 1)
    tapes = [bench.member(user, "a")[1] for user in ("ann", "bob")]
    bench.say("a")
    bench.say("a")
    bench.hub.flush()
    assert bench.hub.written.events == 2
    bench.hub.flush()
    assert bench.hub.written.events == 4
    assert bench.hub.written.size == sum(len(data) for tape in tapes for data in tape.written)


def test_many_connections_are_written_to_in_slices(bench: Bench) -> None:
    """A client in a later slice gets new events in the same write; one already served gets them in the next round."""
    tapes = [bench.member("ann", "a")[1] for _ in range(SLICE + 1)]
    bench.say("a")
    assert bench.hub.flush()
    bench.say("a")
    assert not bench.hub.flush()
    assert (tapes[0].uuids(), tapes[-1].uuids()) == ([["1"]], [["1", "2"]])
    assert bench.flushes_asked == 2
    assert not bench.hub.flush()
    assert tapes[0].uuids() == [["1"], ["2"]]


@pytest.mark.parametrize("taken", [0, 7, OSError])
def test_the_stream_is_written_what_the_quicker_write_has_not_taken(
    bench: Bench, taken: int | type[OSError]
) -> None:
    """In the flush; a write out of its turn is always one of the stream."""
    connection, tape = bench.member("ann", "a")
    _, other = bench.member("bob", "a")
    quick: list[bytes] = []

    def write(data: bytes) -> int:
        if not isinstance(taken, int):
            raise taken
        quick.append(data[:taken])
        return taken

    for out_of_turn in (False, True):
        connection.write = write
        bench.say("a")
        if out_of_turn:
            bench.hub.stall(connection, BufferBatch(10))
        bench.flush_all()
    first, second = other.written
    assert (b"".join(quick) + tape.written[0], tape.written[1]) == (first, second)


def test_a_quicker_write_may_take_all(bench: Bench) -> None:
    connection, tape = bench.member("ann", "a")
    quick: list[bytes] = []

    def write(data: bytes) -> int:
        quick.append(data)
        return len(data)

    connection.write = write
    bench.say("a")
    bench.flush_all()
    assert (len(quick), tape.written) == (1, [])


def test_a_deletion_that_is_not_sent_is_written_by_the_stream(bench: Bench) -> None:
    connection, tape = bench.member("ann", "a")
    connection.write = lambda _data: 0
    ann = frozenset({"ann"})
    bench.say("a")
    bench.deliver(deletion(bench.say("a").event.uuid, only=ann, exclude=ann))
    assert tape.uuids() == [["1"]]


def test_a_very_large_batch_is_written_in_parts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part is one write, in order, and the same bytes for all; an entry that is too large is one part."""
    tapes = [bench.member(user, "a")[1] for user in ("ann", "bob")]
    first = bench.say("a")
    monkeypatch.setattr(batch, "BATCH_SIZE", 2 * first.size + 1)
    large = b'"%b"' % (b"x" * first.size)
    bench.deliver(Message(uuid="2", channel="a", user="ann", payload=large, timestamp="t"))
    for _ in range(3):
        bench.say("a")
    bench.flush_all()
    assert tapes[0].uuids() == [["1"]]
    bench.say("a")
    for _ in range(3):
        bench.flush_all()
    assert tapes[0].uuids() == [["1"], ["2"], ["3", "4"], ["5", "6"]]
    assert all(one is other for one, other in zip(tapes[0].written, tapes[1].written, strict=True))
    assert bench.flushes_asked == 4


def test_a_poll_that_takes_a_part_of_a_batch_leaves_the_rest_in_the_log(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stream ends with the write; the next one begins after the written part."""
    connection, tape = bench.member("ann", "a")
    tape.on_write = lambda: bench.hub.detach(connection, 99.0)
    size = bench.say("a").size
    bench.say("a")
    monkeypatch.setattr(batch, "BATCH_SIZE", size)
    bench.flush_all()
    bench.flush_all()
    assert (tape.uuids(), connection.delivered) == ([["1"]], (1,))


def test_a_message_deleted_before_a_round_is_not_sent_in_a_later_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of a very large batch is older than the round it is written in."""
    _, tape = bench.member("bob", "a")
    size = bench.say("a").size
    said = bench.say("a")
    bench.say("a")
    bench.deliver(MessageDeleted(uuid=said.event.uuid, channel="a", exclude=frozenset({"bob"})))
    monkeypatch.setattr(batch, "BATCH_SIZE", size)
    for _ in range(4):
        bench.flush_all()
    assert tape.uuids() == [["1"], ["3"]]


def test_an_edit_before_the_rest_has_what_the_edit_after_it_leaves(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newer edit of the same message, which is sent later, does not say it."""
    _, tape = bench.member("bob", "a")
    monkeypatch.setattr(batch, "BATCH_SIZE", 1)
    bench.deliver(MessageEdited(uuid="m", channel="a", edited="e", payload=b"2"))
    bench.deliver(MessageEdited(uuid="m", channel="a", edited="f", user="eve"))
    for _ in range(2):
        bench.flush_all()
    items = [item for text in tape.written for item in json.loads(text)]
    assert [(item.get("message"), item.get("user")) for item in items] == [(2, "eve"), (None, "eve")]


def test_rounds_that_each_leave_a_rest_keep_no_old_changes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest has taken the changes with it, so the bound of what is remembered holds."""
    bench.member("ann", "a")
    monkeypatch.setattr(batch, "BATCH_SIZE", 1)
    monkeypatch.setattr(changes, "KEPT", 10)
    for _ in range(30):
        bench.say("a")
    for _ in range(25):
        bench.deliver(deletion("unknown"))
        bench.deliver(deletion("unknown"))
        bench.hub.flush()
    assert len(bench.hub.changes.after(bench.hub.changes.number - 10) or ()) == 10
    assert bench.hub.changes.after(bench.hub.changes.number - 20) is None


@pytest.mark.replaces_compiled
def test_a_very_large_batch_is_split_once_in_a_round(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """However its recipients lie among others."""
    for _ in range(5):
        bench.member("ann", "all", "a")
        bench.member("bob", "all", "b")
        bench.member("eve", "all", "a", framing=Framing.SSE)
    for channel in ("all", "a", "b"):
        bench.say(channel)
    monkeypatch.setattr(batch, "BATCH_SIZE", 1)
    split: list[Sequence[Entry]] = []
    current_forms = rounds.current_forms

    def counted(entries: Sequence[Entry], *more: Any) -> Sequence[Entry]:
        split.append(entries)
        return current_forms(entries, *more)

    monkeypatch.setattr(rounds, "current_forms", counted)
    bench.flush_all()
    assert [len(entries) for entries in split] == [1, 1]


def test_an_edit_for_some_applies_to_the_part_that_is_written_before_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients that the edit is sent to are not sent the earlier text, though others are."""
    tapes = [bench.member(user, "a")[1] for user in ("ann", "bob")]
    said = bench.say("a")
    bench.deliver(
        MessageEdited(
            uuid=said.event.uuid, channel="a", only=frozenset({"ann"}), edited="later", payload=b"2"
        )
    )
    monkeypatch.setattr(batch, "BATCH_SIZE", 1)
    for _ in range(3):
        bench.flush_all()
    [theirs, other] = ([json.loads(data) for data in tape.written] for tape in tapes)
    assert [item["message"] for [item] in theirs] == [2, 2]
    assert [item["message"] for [item] in other] == [1]


def test_a_stream_that_stalls_takes_no_more_of_a_very_large_batch(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its transport is full: the rest of the batch is read from the log once it has drained."""
    connection, tape = bench.member("ann", "a")
    buffer = BufferBatch(0)

    def stall() -> None:
        tape.on_write = lambda: None
        bench.hub.stall(connection, buffer)

    tape.on_write = stall
    size = bench.say("a").size
    for _ in range(3):
        bench.say("a")
    monkeypatch.setattr(batch, "BATCH_SIZE", 2 * size)
    bench.flush_all()
    bench.flush_all()
    assert tape.uuids() == [["1", "2"], ["3", "4"]]
    assert connection.delivered == (4,)
    bench.hub.go_live(connection, [])
    tape.on_write = stall
    for _ in range(7):
        bench.say("a")
    bench.flush_all()
    assert tape.uuids()[2:] == [["5", "6"]]
    assert (connection.batch, connection.delivered) == (buffer, (6,))


def test_large_writes_count_as_several(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice of them is shorter."""
    tapes = [bench.member("ann", "a")[1] for _ in range(5)]
    bench.say("a")
    monkeypatch.setattr(rounds, "SLICE", 4)
    monkeypatch.setattr(rounds, "WRITE_BYTES", 100)
    assert bench.hub.flush()
    size = len(tapes[0].written[0])
    assert 100 < size < 200
    assert [len(tape.written) for tape in tapes] == [1, 1, 0, 0, 0]
    bench.flush_all()
    assert [len(tape.written) for tape in tapes] == [1] * 5


def test_a_client_waiting_for_a_slice_may_reconnect_by_another_transport(bench: Bench) -> None:
    """The new stream gets the later events in its own framing, and nothing in the old one."""
    for _ in range(SLICE):
        bench.member("ann", "a", framing=Framing.WEBSOCKET)
    connection, old = bench.member("bob", "a", framing=Framing.POLL)
    bench.say("a")
    assert bench.hub.flush()
    bench.hub.detach(connection, 99.0)
    new = bench.attach(connection, Framing.SSE)
    bench.say("a")
    for _ in range(3):
        bench.hub.flush()
    assert (old.written, [data[:9] for data in new.written]) == ([], [b"id: e-2\nd"])


def test_a_round_in_slices_leaves_no_batches_behind(bench: Bench) -> None:
    """Every batch is freed by its last user and not by the garbage collector."""
    for _ in range(SLICE + 1):
        bench.member("ann", "a")
    gc.collect()
    gc.disable()
    try:
        bench.say("a")
        bench.hub.flush()
        bench.say("a")
        while bench.hub.flush():
            pass
        bench.hub.flush()
        left = [each for each in gc.get_objects() if type(each) is Batch and each.entry is not None]
    finally:
        gc.enable()
    assert left == []
