"""Entries: their offsets and positions, and what each recipient gets of them."""

import operator

import pytest

from channelstream.core.budget import Budget
from channelstream.core.entry import ENTRY_OVERHEAD, Entry, advance_positions
from channelstream.core.events import Message, MessageEdited, UserLeft, UsersLeft
from channelstream.core.log import Log, LogLimits


def message(uuid: str, payload: bytes = b"1") -> Message:
    return Message(uuid=uuid, channel="a", user="ann", payload=payload, timestamp="t")


def entry(offset: int, at_s: float = 0.0, payload: bytes = b"1") -> Entry:
    return Entry(offset, ("e",), at_s, message(f"m{offset}", payload))


def parted(offset: int, *users: str) -> Entry:
    gone = tuple(UserLeft(user, user, len(users) - number) for number, user in enumerate(users, 1))
    return Entry(offset, ("e",), 0.0, UsersLeft(uuid=users[-1], channel="a", departures=gone, timestamp="t"))


def test_an_entry_counts_its_payload_twice_and_an_overhead() -> None:
    """Once as the event, once as the encoded form; an event without payload is its overhead."""
    assert entry(1, payload=b"12345").size == ENTRY_OVERHEAD + 10
    edit = MessageEdited(uuid="m", channel="a", edited="t")
    assert Entry(1, ("e",), 0.0, edit).size == ENTRY_OVERHEAD


def test_an_event_of_several_users_has_an_offset_for_each() -> None:
    """A client that waits for it has received all before the first; alone, each has its own offset."""
    entry_ = parted(7, "ann", "bob", "cid")
    assert (entry_.first_offset, entry_.offsets_before) == (5, (4,))
    parts = [(each.offset, each.position, each.event.about) for each in entry_.split()]
    assert parts == [(5, "e-5", ("ann",)), (6, "e-6", ("bob",)), (7, "e-7", ("cid",))]
    alone = entry(3)
    assert (alone.first_offset, alone.split()) == (3, [alone])


@pytest.mark.parametrize(
    ("delivered", "rest"), [(3, ("ann", "bob")), (4, ("ann", "bob")), (5, ("bob",)), (6, None), (9, None)]
)
def test_a_client_that_received_part_of_an_event_reads_the_rest(
    delivered: int, rest: tuple[str, ...] | None
) -> None:
    """Nothing twice, and nothing missing, from every offset."""
    full = Log(LogLimits(10), Budget(10_000), 0)
    full.append(parted(6, "ann", "bob"))
    full.append(entry(8))
    read = list(full.since(delivered, 0.0))
    assert [each.event.about for each in read[:-1]] == ([] if rest is None else [rest])
    assert [each.offset for each in read[-1:]] == ([] if delivered >= 8 else [8])


def test_one_of_the_users_receives_the_others() -> None:
    """Other users, and other events, are not affected."""
    together, message_ = parted(6, "ann", "bob"), entry(7)
    assert together.for_user("ann").event.about == ("bob",)
    assert together.for_user("cid") is together
    last = parted(7, "ann", "cid", "bob").for_user("bob")
    assert (last.offset, last.offsets, last.position, last.offsets_before) == (6, (6,), "e-6", (4,))
    assert [each.position for each in last.split()] == ["e-5", "e-6"]
    assert message_.for_user("ann") is message_.after(0) is message_


def test_an_amended_entry_keeps_its_offset() -> None:
    """It has offset, position and time of the old one, and none of its encoded forms."""
    old = entry(3, 4.0)
    old.items = [b"old"]
    new = old.with_event(message("m3", b"[1,2]"))
    assert (new.offset, new.position, new.at_s) == (3, "e-3", 4.0)
    assert new.items is None
    assert new.size == ENTRY_OVERHEAD + 10


def test_an_entry_carries_the_position_of_its_client_after_it() -> None:
    """Its own offset, and in the other shards the delivered offsets of the client, even if the node's are lower."""
    one = Entry(5, ("e", "f", "g"), 0.0, message("m5"), 1, (3, 5, 7))
    other = Entry(8, ("e", "f", "g"), 0.0, message("m8"), 2, (3, 5, 8))
    assert [(parts.offsets, parts.position) for parts in advance_positions((4, 4, 6), [one, other])] == [
        ((4, 5, 6), "e.f.g-4.5.6"),
        ((4, 5, 8), "e.f.g-4.5.8"),
    ]
    assert (one.offsets_before, other.offsets_before) == ((3, 4, 7), (3, 5, 7))


def test_in_one_shard_an_entry_is_the_same_for_all() -> None:
    """So that its bytes are made once."""
    entries = [entry(3), entry(5)]
    assert all(map(operator.is_, advance_positions((2,), entries), entries))
