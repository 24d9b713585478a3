"""What every `EventLog` must do: accept, keep, compact and replay events."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from tests.engines.conformance.lab import (
    EMPTY,
    Lab,
    message,
    private,
    uuids,
)

from channelstream.core.accepted import Accepted
from channelstream.core.events import (
    Event,
    MessageDeleted,
    MessageEdited,
)
from channelstream.core.log import PRIVATE
from channelstream.core.position import Position, max_offsets
from channelstream.core.registry_limits import RegistryLimits
from channelstream.engines.members import Member
from channelstream.slices import MANY
from channelstream.wire.channelstream import V07

# -- publishing


def test_accepted_events_are_delivered_in_order(lab: Lab) -> None:
    """In the order of each request and of the requests, with increasing offsets."""
    lab.connect("ann", "a", "b")
    events = [message("m1"), message("m2", channel="b"), MessageDeleted(uuid="m1", channel="a")]
    accepted = lab.publish(*events)
    lab.publish(message("m3"))
    assert [each.event for each in accepted] == events
    assert lab.in_order(lab.received()) == lab.in_order([*events, message("m3")])
    numbers = [(entry.shard, entry.offset) for entry in lab.received_entries()]
    assert sorted(numbers) == sorted(set(numbers), key=lambda number: (number[0], numbers.index(number)))


def test_an_event_that_is_accepted_at_once_is_as_any_other(lab: Lab) -> None:
    """An engine that has to wait accepts none so, and then nothing has happened."""
    lab.connect("ann", "a")
    lab.publish(message("m1"))
    for event in (message("m2"), MessageEdited(uuid="m1", channel="a", edited="t"), message("m2")):
        before = lab.received()
        accepted = lab.engine.publish_at_once(event)
        if accepted is None:
            assert lab.received() == before
            [accepted] = lab.publish(event)
        assert accepted.duplicate == (event in before)
        assert lab.received() == (before if accepted.duplicate else [*before, event])


def test_the_position_is_that_of_the_last_event(lab: Lab) -> None:
    """Every entry carries the position a client sees, in one epoch."""
    lab.connect("ann", "a")
    lab.publish(message("m1"), message("m2"))
    entries = lab.received_entries()
    positions = [Position.parse(entry.position) for entry in entries]
    assert positions == [Position(lab.engine.position.epochs, entry.offsets) for entry in entries]
    assert [lab.number(entry.offsets) for entry in entries] == lab.numbers()
    assert positions[-1] == lab.engine.position


def test_publishing_nothing_does_nothing(lab: Lab) -> None:
    """An empty request is accepted."""
    assert lab.publish() == []
    assert lab.received() == []


def test_a_repeated_message_is_delivered_once(lab: Lab) -> None:
    """A repetition returns the message accepted first; within one request as well."""
    lab.connect("ann", "a")
    first = message("m1")
    assert lab.publish(first) == [Accepted(first, duplicate=False, found=False)]
    again = message("m1", edited="other")
    other = message("m2")
    accepted = lab.publish(again, other, other)
    assert [each.duplicate for each in accepted] == [True, False, True]
    assert accepted[0] == Accepted(first, duplicate=True, found=True)
    assert lab.received() == [first, other]


def test_a_repeated_private_message_is_delivered_once(lab: Lab) -> None:
    """Its uuid is found in the logs of its users."""
    lab.connect("bob")
    assert [each.duplicate for each in lab.publish(private("p1", "bob"), private("p1", "bob"))] == [
        False,
        True,
    ]
    assert lab.received() == [private("p1", "bob")]


def test_the_connection_that_a_message_excludes_is_kept(lab: Lab) -> None:
    """It is delivered, replayed and edited with it: the reader decides who may read it."""
    lab.connect("ann", "a")
    sent = message("m1", exclude_connection="of-ann")
    lab.publish(sent)
    lab.publish(MessageEdited(uuid="m1", channel="a", edited="e", payload=b'"new"'))
    [kept, _] = [entry.event for entry in lab.replay("ann", a=0).entries]
    assert lab.received()[0] == sent
    assert kept == replace(sent, edited="e", payload=b'"new"')


def test_the_same_uuid_in_another_channel_is_another_message(lab: Lab) -> None:
    """A uuid is unique within its channel, or within its user's private messages."""
    lab.connect("ann", "a", "b")
    assert [each.duplicate for each in lab.publish(message("m1"), message("m1", channel="b"))] == [
        False,
        False,
    ]


def test_edits_and_deletions_return_whether_the_message_is_kept(lab: Lab) -> None:
    """They are delivered in both cases: the application is the authority."""
    lab.connect("ann", "a", "b")
    lab.publish(message("m1"))
    events = [
        MessageEdited(uuid="m1", channel="a", edited="t"),
        MessageDeleted(uuid="m1", channel="a"),
        MessageEdited(uuid="unknown", channel="a", edited="t"),
        MessageDeleted(uuid="m1", channel="b"),
    ]
    accepted = lab.publish(*events)
    assert [(each.found, each.duplicate) for each in accepted] == [
        (True, False),
        (True, False),
        (False, False),
        (False, False),
    ]
    assert lab.in_order(lab.received()) == lab.in_order([message("m1"), *events])


def test_a_message_to_an_unknown_channel_is_accepted_and_not_kept(lab: Lab) -> None:
    """It creates no channel."""
    (accepted,) = lab.publish(message("m1", channel="nowhere"))
    assert accepted == Accepted(message("m1", channel="nowhere"), duplicate=False, found=False)
    assert lab.channels() == []


# -- replaying


def test_a_replay_returns_what_followed_across_channels_in_order(lab: Lab) -> None:
    """Each channel from its own offset on, private messages under their name, nothing else."""
    lab.connect("ann", "a", "b", "c")
    lab.publish(message("a1"), message("b1", channel="b"), private("p1", "ann"), message("c1", channel="c"))
    numbers = {entry.event.uuid: entry.offset for entry in lab.received_entries()}
    lab.publish(message("b2", channel="b"), private("p2", "bob"), message("a2"))
    replay = lab.replay("ann", a=0, b=numbers["b1"], private=0)
    wanted = [message("a1"), private("p1", "ann"), message("b2", channel="b"), message("a2")]
    assert lab.in_order(entry.event for entry in replay.entries) == lab.in_order(wanted)
    assert (replay.lost, lab.read_whole(replay)) == (frozenset(), True)
    assert uuids(lab.replay("ann", a=numbers["a1"])) == ["a2"]


@pytest.mark.parametrize("strict", [False, True])
def test_nothing_after_is_an_empty_replay(lab: Lab, strict: bool) -> None:
    """An engine that has to ask another process does not know at once, and none does of very many logs."""
    lab.connect("ann", "a", "b")
    lab.publish(message("a1"), private("p1", "ann"))
    for starts in (
        {"a": lab.head("a"), "b": 0, PRIVATE: lab.head("ann")},
        {"a": lab.head("a"), PRIVATE: 0},
        {"a": 0, PRIVATE: lab.head("ann")},
        {"a": lab.head("a"), "unknown": 0},
        {"b": -1},
    ):
        replay = lab.run(lab.engine.replay("ann", starts, 9))
        is_empty = lab.engine.cluster.is_single and not replay.entries and not (strict and replay.lost)
        found = lab.engine.nothing_after("ann", starts, strict=strict)
        assert found == (replay.head if is_empty else None)
    assert lab.engine.nothing_after("ann", {f"c{number}": 0 for number in range(MANY)}, strict=strict) is None


def test_a_replay_from_the_head_is_empty_and_loses_nothing(lab: Lab) -> None:
    """A client that received everything misses nothing."""
    lab.connect("ann", "a")
    lab.publish(message("m1"))
    replay = lab.replay("ann", a=lab.head("a"), private=lab.head("ann"))
    assert (replay.entries, replay.lost, lab.read_whole(replay)) == ([], frozenset(), True)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_long_replay_is_read_in_chunks(lab: Lab, limit: int) -> None:
    """Repeated from `read_to` until that is the head, it returns every event once, in order."""
    lab.connect("ann", "a", "b")
    found: list[Event] = []
    events = [message(f"m{number}", channel="ab"[number % 2]) for number in range(7)]
    lab.publish(*events)
    read_to, head = (0,) * len(lab.engine.position.offsets), lab.engine.position.offsets
    while read_to != head:
        replay = lab.replay("ann", limit, a=lab.number(read_to, "a"), b=lab.number(read_to, "b"))
        assert len(replay.entries) <= limit * len(head)
        assert max_offsets(replay.read_to, read_to) == replay.read_to != read_to
        found += [entry.event for entry in replay.entries]
        read_to = replay.read_to
    assert lab.in_order(found) == lab.in_order(events)


def test_a_replay_of_no_entries_reports_lost_channels(lab: Lab) -> None:
    """With a limit of 0 nothing is read, and `read_to` is the start."""
    lab.connect("ann", "a")
    start = lab.head()
    lab.publish(message("m1"), message("m2"))
    replay = lab.replay("ann", 0, a=start, unknown=start)
    assert (replay.entries, replay.lost) == ([], frozenset({"unknown"}))
    assert lab.number(replay.head) == lab.head()
    assert lab.number(replay.read_to) < lab.numbers()[0]


def test_a_trimmed_entry_is_lost_and_not_replayed(open_lab: Callable[..., Lab]) -> None:
    """A channel is recovered completely or not at all; the others are not affected."""
    lab = open_lab(limits=RegistryLimits(log_events=2, user_log_events=1))
    lab.connect("ann", "a", "b")
    lab.publish(message("b1", channel="b"), private("p1", "ann"), private("p2", "ann"))
    lab.publish(*(message(f"m{number}") for number in range(3)))
    replay = lab.replay("ann", a=0, b=0, private=0)
    assert (uuids(replay), replay.lost) == (["b1"], frozenset({"a", PRIVATE}))
    trimmed = lab.numbers()[3]
    assert uuids(lab.replay("ann", a=trimmed)) == ["m1", "m2"]


def test_an_expired_entry_is_lost(open_lab: Callable[..., Lab]) -> None:
    """Without any call in between: a replay checks the age."""
    lab = open_lab(limits=RegistryLimits(log_age_s=60.0))
    lab.connect("ann", "a")
    lab.publish(message("m1"))
    lab.clock.passed_s += 60.0
    assert uuids(lab.replay("ann", a=0)) == ["m1"]
    lab.clock.passed_s += 0.5
    assert lab.replay("ann", a=0).lost == {"a"}
    assert lab.replay("ann", a=lab.head()).lost == frozenset()


def test_what_a_client_misses_between_two_polls_is_kept(open_lab: Callable[..., Lab]) -> None:
    """However short the age of the logs is: private messages, too."""
    lab = open_lab(limits=RegistryLimits(log_age_s=1.0, transit_s=15.0))
    lab.connect("ann", "a")
    start = lab.head()
    lab.publish(message("m1"), private("p1", "ann"))
    lab.clock.passed_s += 14.0
    replay = lab.replay("ann", a=start, private=start)
    assert (sorted(uuids(replay)), replay.lost) == (["m1", "p1"], frozenset())
    lab.clock.passed_s += 1.5
    assert lab.replay("ann", a=start, private=start).lost == {"a", PRIVATE}


def test_unknown_channels_and_users_are_lost(lab: Lab) -> None:
    """A name without a log proves nothing."""
    assert lab.replay("nobody", private=0, unknown=0).lost == {PRIVATE, "unknown"}


def test_a_position_without_proof_loses_everything(lab: Lab) -> None:
    """A start of -1, for a position of another epoch, is below every floor."""
    lab.connect("ann", "a")
    assert lab.replay("ann", a=-1, private=-1).lost == {"a", PRIVATE}


def test_a_channel_without_log_proves_only_its_head(lab: Lab) -> None:
    """With log_events of 0 every event is lost to a client that did not receive it."""
    lab.connect("ann", "a", log_events=0)
    before = lab.head()
    lab.publish(message("m1"))
    assert lab.replay("ann", a=before).lost == {"a"}
    assert lab.replay("ann", a=lab.head()).lost == frozenset()


def test_a_new_channel_has_lost_earlier_messages(lab: Lab) -> None:
    """Events before its creation cannot be proven."""
    lab.publish(message("m1"))
    before = lab.head() - 1
    lab.connect("ann", "a")
    assert lab.replay("ann", a=before).lost == {"a"}


@pytest.mark.parametrize("connects", [True, False])
def test_a_new_channel_loses_nothing_after_a_join(lab: Lab, connects: bool) -> None:
    """Although the same call announces the member in a channel before it, which makes the head greater."""
    lab.connect("bob", "0", notify_presence=True)
    wanted: dict[str, dict[str, Any]] = {"0": {}, "a": {}}
    if connects:
        registered = lab.run(lab.engine.connect(Member("of-ann", "ann", V07), EMPTY, wanted))
        assert registered is not None
        joined = registered.joined
    else:
        joined = lab.run(lab.engine.join(lab.connect("ann"), wanted))
    assert lab.replay("ann", **joined).lost == frozenset()


# -- heads and batched leaves


def test_the_head_of_some_shards_is_asked_for_by_names(lab: Lab) -> None:
    """The head covers the shards of these names, and leaves the others out."""
    lab.connect("ann", "a", "b")
    lab.run(lab.engine.publish([message("m1"), message("m2", channel="b")]))
    everything = lab.run(lab.engine.head())
    for name in ("a", "b"):
        assert lab.number(lab.run(lab.engine.head([name])).offsets, name) == lab.number(
            everything.offsets, name
        )
    assert lab.run(lab.engine.head([])).epochs == everything.epochs


def test_a_read_that_ends_before_a_batched_leave_continues_with_all_of_it(lab: Lab) -> None:
    """For every size of a read."""
    lab.connect("stays", "a", notify_presence=True)
    crowd = [lab.connect(f"user {number}", "a") for number in range(4)]
    before = lab.head()
    lab.publish(message("m1"))
    lab.disconnect_all(crowd, "a")
    found, at, head = [], before, lab.head()
    while at < head:
        read = lab.replay("stays", 1, a=at)
        found += [single.offset for entry in read.entries for single in entry.split()]
        at = lab.number(read.read_to)
    assert found == sorted(set(found))
    assert len(found) == 5
