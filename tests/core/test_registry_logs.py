"""The registry: where events are kept, and what edits and deletions change there."""

from collections.abc import Iterator

import pytest
from tests.core.registry_bench import NOW, Bench, message, uuids

from channelstream.core.compaction import MAX_EXCLUDED
from channelstream.core.events import Event, Message, MessageDeleted, MessageEdited
from channelstream.core.registry_limits import RegistryLimits


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.check_budget()


def test_an_event_of_a_channel_is_kept_in_its_log(bench: Bench) -> None:
    """Of any kind; an unknown channel keeps nothing."""
    channel = bench.channel("a")
    bench.commit(message("m1"))
    bench.commit(MessageDeleted(uuid="m1", channel="a"))
    bench.commit(message("m2", channel="unknown"))
    assert [entry.offset for entry in channel.log.entries] == [2]


def test_a_private_message_is_kept_for_each_of_its_users(bench: Bench) -> None:
    """Except for excluded and unknown users."""
    ann, bob, cid = bench.user("ann"), bench.user("bob"), bench.user("cid")
    only = frozenset({"ann", "bob", "nobody"})
    bench.commit(message("m1", channel=None, only=only, exclude=frozenset({"ann"})))
    bench.commit(message("m2", channel=None))
    assert [uuids(user.log.entries) for user in (ann, bob, cid)] == [[], ["m1"], []]


def test_what_is_known_of_a_private_message_is_known_to_those_who_have_it(bench: Bench) -> None:
    """Not to those whom it excluded, or who were unknown; a user who is unknown now counts as one who has it."""
    bench.user("ann")
    bench.user("bob")
    only = frozenset({"ann", "bob", "cid", "dan"})
    bench.commit(message("m1", channel=None, only=only, exclude=frozenset({"bob"})))
    bench.user("cid")
    [known] = bench.registry.logs.events_about(MessageDeleted(uuid="m1", only=only))
    assert known.only == {"ann", "dan"}
    assert bench.registry.logs.events_about(MessageDeleted(uuid="m1", only=only - {"ann"})) == []


def test_a_full_budget_drops_from_the_logs_of_addressees_in_the_order_of_names() -> None:
    """Not in the order of a set of strings, which differs between processes."""
    names = [f"user {number}" for number in range(9)]
    bench = Bench(RegistryLimits(log_bytes=20_000))
    users = [bench.user(name) for name in names]
    bench.commit(message("1", None, only=frozenset(names)))
    for number in range(20):
        bench.commit(message(f"in {number}", None, only=frozenset({names[8]})))
        held = [bool(user.log.entries) for user in users]
        assert held == sorted(held)
    assert not all(held)


def test_history_shows_public_messages_and_nothing_else(bench: Bench) -> None:
    """Not the private ones within the channel, not those with no_history, no presence."""
    channel = bench.channel("a", store_history=True, notify_presence=True)
    bench.commit(message("m1"))
    bench.commit(message("m2", only=frozenset({"bob"})))
    bench.commit(message("m3", no_history=True))
    bench.commit(message("m4", exclude=frozenset({"bob"})))
    for event in bench.join(channel, bench.user("ann")):
        bench.commit(event)
    assert uuids(channel.history.entries) == ["m1", "m4"]


def test_a_history_that_is_off_shows_nothing(bench: Bench) -> None:
    """Neither does one of size 0, nor one switched off later."""
    off, none = bench.channel("a"), bench.channel("b", store_history=True, history_size=0)
    later = bench.channel("c", store_history=True)
    for name in "abc":
        bench.commit(message(name, channel=name))
    bench.registry.configure("c", {"store_history": False}, 0, NOW)
    assert [channel.history.entries for channel in (off, none, later)] == [[], [], []]


def test_an_edit_changes_history_and_log(bench: Bench) -> None:
    """Both have the new text at the old offset; a resumed client gets the current message and one edit with all changes."""
    channel = bench.channel("a", store_history=True)
    bench.commit(message("m1"))
    bench.commit(message("m2"))
    bench.commit(MessageEdited(uuid="m1", channel="a", edited="e", payload=b"5"))
    bench.commit(MessageEdited(uuid="m1", channel="a", edited="f", user="bob", timestamp="u"))
    assert uuids(channel.history.entries) == ["m1", "m2"]
    present = Message(uuid="m1", channel="a", user="bob", payload=b"5", timestamp="u", edited="f")
    assert channel.history.entries[0].event == channel.log.entries[0].event == present
    assert [kept.offset for kept in channel.log.entries] == [1, 2, 4]
    last = channel.log.entries[-1].event
    assert last == MessageEdited(uuid="m1", channel="a", user="bob", payload=b"5", timestamp="u", edited="f")


def test_a_message_edited_for_too_many_users_is_lost_for_the_others(bench: Bench) -> None:
    """The log drops it for users who still need it, and its floor rises."""
    log = bench.channel("a").log
    bench.commit(message("m"))
    many = frozenset(f"u{number}" for number in range(MAX_EXCLUDED))
    bench.commit(MessageEdited(uuid="m", channel="a", edited="t", payload=b"2", only=many))
    assert (log.floor, uuids(log.entries)) == (0, ["m", "m"])
    bench.commit(MessageEdited(uuid="m", channel="a", edited="t", payload=b"2", only=frozenset({"ann"})))
    assert (log.floor, [entry.offset for entry in log.entries]) == (1, [2, 3])


def test_a_deletion_is_all_that_remains(bench: Bench) -> None:
    """Of the message and its edits, in every log that holds them; the budget gets their bytes back."""
    bob, cid = bench.user("bob"), bench.user("cid")
    only = frozenset({"bob", "cid"})
    bench.commit(message("p1", channel=None, only=only))
    bench.commit(MessageEdited(uuid="p1", only=only, edited="e", payload=b"5" * 1000))
    before = bench.registry.budget.used_bytes
    bench.commit(MessageDeleted(uuid="p1", only=only, exclude=frozenset({"cid"})))
    assert uuids(bob.log.entries) == ["p1"]
    assert isinstance(bob.log.entries[0].event, MessageDeleted)
    assert (
        cid.log.entries == bob.log.entries
    )  # Who is excluded is not sent it, nor the message if that is repeated.
    assert bench.registry.budget.used_bytes < before - 4000
    assert (bob.log.floor, cid.log.floor) == (0, 0)


def test_a_private_message_leaves_the_logs_of_users_it_is_deleted_for(bench: Bench) -> None:
    """And stays in the logs of the other users, for them alone."""
    bob, cid = bench.user("bob"), bench.user("cid")
    bench.commit(message("p1", channel=None, only=frozenset({"bob", "cid"})))
    bench.commit(MessageDeleted(uuid="p1", only=frozenset({"bob"})))
    assert [type(kept.event) for kept in bob.log.entries] == [MessageDeleted]
    assert [kept.event.only for kept in cid.log.entries] == [{"cid"}]
    channel = bench.channel("a")
    for_cid = bench.commit(message("m1", only=frozenset({"cid"})))
    bench.commit(MessageDeleted(uuid="m1", channel="a", only=frozenset({"bob"})))
    assert channel.log.entries[0] is for_cid


def test_a_deletion_takes_the_message_from_the_history(bench: Bench) -> None:
    """The others stay."""
    channel = bench.channel("a", store_history=True)
    bench.commit(message("m1"))
    bench.commit(message("m2"))
    bench.commit(MessageDeleted(uuid="m1", channel="a"))
    assert uuids(channel.history.entries) == ["m2"]


@pytest.mark.parametrize(
    "event",
    [
        MessageEdited(uuid="unknown", channel="a", edited="e"),
        MessageDeleted(uuid="unknown", channel="a"),
    ],
)
def test_an_edit_of_a_message_not_shown_changes_nothing(bench: Bench, event: Event) -> None:
    """The edit is still an event of the log."""
    channel = bench.channel("a", store_history=True)
    bench.commit(message("m1"))
    bench.commit(event)
    assert uuids(channel.history.entries) == ["m1"]
    assert len(channel.log.entries) == 2


def test_a_message_is_known_as_long_as_log_or_history_holds_it(bench: Bench) -> None:
    """In its channel, or with any of its users."""
    channel = bench.channel("a", store_history=True)
    bench.user("bob")
    entry = bench.commit(message("m1"))
    private = bench.commit(message("p1", channel=None, only=frozenset({"bob", "cid"})))
    registry, of_m1 = bench.registry, MessageDeleted(uuid="m1", channel="a")
    assert registry.logs.entries_about(of_m1) == [entry]
    assert registry.logs.entries_about(MessageDeleted(uuid="p1", only=frozenset({"cid", "bob"}))) == [private]
    channel.log.clear()
    assert (registry.logs.entries_about(of_m1), registry.logs.history_message(of_m1)) == ([], entry)
    assert registry.logs.knows("a", "m1")
    channel.history.clear()
    assert registry.logs.history_message(of_m1) is None
    assert not registry.logs.knows("a", "m1")
    assert not registry.logs.knows("unknown", "m1")
    for elsewhere in (MessageDeleted(uuid="m1", channel="unknown"), MessageDeleted(uuid="m1")):
        assert (registry.logs.entries_about(elsewhere), registry.logs.history_message(elsewhere)) == (
            [],
            None,
        )
