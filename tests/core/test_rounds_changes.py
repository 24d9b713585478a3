"""The flush: what was superseded while it waited is sent in its current form, or not at all."""

import json
from collections import Counter

import pytest
from tests.core.hub_bench import Bench, deletion, fail

from channelstream.core import changes
from channelstream.core.batch import BufferBatch
from channelstream.core.changes import KEPT
from channelstream.core.connection import Connection
from channelstream.core.entry import Entry
from channelstream.core.events import MessageDeleted, MessageEdited
from channelstream.core.rounds import SLICE
from channelstream.wire.channelstream import V07


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_message_deleted_before_the_flush_is_not_sent(bench: Bench) -> None:
    """Only the deletion is; of an edited message the new text, and the edit."""
    _, tape = bench.member("bob", "a")
    for _ in range(3):
        bench.say("a")
    bench.deliver(deletion("1"))
    bench.deliver(MessageEdited(uuid="2", channel="a", edited="e", payload=b"2"))
    bench.hub.flush()
    [items] = map(json.loads, tape.written)
    assert [(item["type"], item["uuid"], item.get("message")) for item in items] == [
        ("message", "2", 2),
        ("message", "3", 1),
        ("message:delete", "1", None),
        ("message:edit", "2", 2),
    ]


def test_a_user_not_sent_the_deletion_is_not_sent_the_message(bench: Bench) -> None:
    """One excluded from it, and one that has left; the next flush serves them as usual."""
    excluded, tape = bench.member("ann", "a")
    left, other = bench.member("bob", "a")
    bench.say("a")
    bench.hub.unsubscribe(left, "a")
    bench.deliver(deletion("1", exclude=frozenset({"ann"})))
    bench.hub.flush()
    assert (tape.written, other.written) == ([], [])
    bench.say("a")
    bench.hub.flush()
    assert tape.uuids() == [["3"]]
    assert excluded.batch is left.batch


def about_one_who_is_excluded(uuid: str) -> MessageDeleted:
    """A deletion about ann only, which she is not sent."""
    return deletion(uuid, only=frozenset({"ann"}), exclude=frozenset({"ann"}))


def test_a_deletion_about_one_user_who_is_not_sent_it_leaves_the_others_the_message(bench: Bench) -> None:
    """Users who share the batch are sent it as usual; nothing is written where nothing remains, or without a stream."""
    _, tape = bench.member("ann", "a")
    _, other = bench.member("bob", "a")
    _, silent = bench.member("ann")
    bench.hub.add(Connection("new", "ann", V07, bench.hub.offsets, 15.0))
    bench.say("a")
    bench.say("a")
    bench.deliver(about_one_who_is_excluded("1"))
    bench.deliver(about_one_who_is_excluded("1"))
    bench.hub.flush()
    bench.say("a")
    bench.deliver(about_one_who_is_excluded("5"))
    bench.flush_all()
    assert (tape.uuids(), other.uuids(), silent.written) == ([["2"]], [["1", "2"], ["5"]], [])


def test_a_deletion_for_one_who_has_left_leaves_the_others_the_message(bench: Bench) -> None:
    """A user that left while the message was pending is sent neither; users who share the batch are sent the message."""
    left, tape = bench.member("ann", "a")
    _, other = bench.member("bob", "a")
    bench.say("a")
    bench.hub.unsubscribe(left, "a")
    bench.deliver(deletion("1", only=frozenset({"ann"})))
    bench.hub.flush()
    assert (tape.written, other.uuids()) == ([], [["1"]])


def test_a_write_before_such_a_deletion_may_fail(bench: Bench) -> None:
    """That stream ends, with nothing of it delivered; the deletion is delivered."""
    connection, tape = bench.member("ann", "a")
    offsets = bench.hub.offsets
    tape.on_write = fail
    tape.on_close = lambda: bench.hub.detach(connection, 99.0)
    bench.say("a")
    bench.say("a")
    bench.deliver(about_one_who_is_excluded("1"))
    assert (connection.stream, connection.delivered) == (None, offsets)


def test_a_deletion_for_one_leaves_the_others_what_waits_for_them(bench: Bench) -> None:
    """In one flush."""
    tapes = [bench.member(user, "a")[1] for user in ("ann", "bob")]
    bench.say("a")
    bench.deliver(deletion("1", only=frozenset({"ann"})))
    bench.hub.flush()
    [[theirs], [other]] = (list(map(json.loads, tape.written)) for tape in tapes)
    assert [item["type"] for item in theirs] == ["message:delete"]
    assert [item["type"] for item in other] == ["message"]


def test_a_client_waiting_for_a_slice_is_not_sent_a_deleted_message(bench: Bench) -> None:
    """Whether it is sent the deletion or not: bytes encoded for others are encoded again."""
    tapes = [bench.member(user, "a")[1] for user in (*["ann"] * SLICE, "bob", "ann")]
    bench.say("a")
    assert bench.hub.flush()
    bench.deliver(deletion("1", exclude=frozenset({"bob"})))
    assert not bench.hub.flush()
    assert [bool(tape.written) for tape in tapes[-3:]] == [True, False, True]
    assert json.loads(tapes[-1].written[0])[0]["type"] == "message:delete"
    bench.hub.flush()
    assert json.loads(tapes[1].written[-1])[0]["type"] == "message:delete"


def test_bytes_encoded_before_a_deletion_are_encoded_again_later(bench: Bench) -> None:
    """Although the later round applies the same changes."""
    for _ in range(SLICE + 1):
        bench.member("zoe", "a")
    stalling, _ = bench.member("ann", "b")
    _, tape = bench.member("bob", "b")
    bench.say("a")
    bench.deliver(deletion("unknown"))
    assert bench.hub.flush()
    said = bench.say("b")
    bench.hub.stall(stalling, BufferBatch(0))
    bench.deliver(MessageDeleted(uuid=said.event.uuid, channel="b", exclude=frozenset({"bob"})))
    bench.flush_all()
    bench.flush_all()
    assert tape.written == []


@pytest.mark.replaces_compiled
def test_many_changes_cost_a_flush_one_lookup_each(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many clients wait for different ones, in however many slices."""
    looked_at: list[Entry] = []
    subject = changes._subject
    monkeypatch.setattr(changes, "_subject", lambda entry: looked_at.append(entry) or subject(entry))
    for number in range(10 * SLICE):
        bench.member(f"user-{number}", f"channel-{number}")
        bench.deliver(MessageEdited(uuid="m", channel=f"channel-{number}", edited="e", payload=b"1"))
    bench.flush_all()
    assert max(Counter(looked_at).values()) <= 4


def test_a_stall_sends_pending_events_in_their_current_form(bench: Bench) -> None:
    """As a flush does."""
    connection, tape = bench.member("bob", "a")
    bench.say("a")
    bench.deliver(deletion("1", exclude=frozenset({"bob"})))
    bench.hub.stall(connection, BufferBatch(0))
    assert tape.written == []
    assert connection.delivered == bench.hub.offsets


def test_changes_are_remembered_while_events_are_pending(bench: Bench) -> None:
    """A flush that is over needs none of the older ones."""
    bench.member("bob", "a")
    for _ in range(3):
        bench.say("a")
        bench.deliver(deletion("unknown"))
        bench.hub.flush()
    assert bench.hub.changes.number == 3
    assert bench.hub.rounds._waiting_changes().last is None


def test_changes_without_a_local_receiver_are_not_kept(bench: Bench) -> None:
    """No flush needs them."""
    bench.member("bob", "a")
    bench.say("a")
    bench.hub.flush()
    for number in range(2 * KEPT):
        bench.deliver(MessageDeleted(uuid=str(number), channel="elsewhere"))
    assert bench.hub.changes.after(KEPT - 1) is None
    assert bench.hub.changes.after(KEPT) is not None
