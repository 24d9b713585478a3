"""The registry: the events of each change, where they are kept, and when users and channels are forgotten."""

import tracemalloc
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.counted import counted_bytes

from channelstream.core.channel import Channel
from channelstream.core.client_protocol import PresenceAudience
from channelstream.core.compaction import MAX_EXCLUDED
from channelstream.core.entry import Entry
from channelstream.core.events import (
    Event,
    Message,
    MessageDeleted,
    MessageEdited,
    Presence,
    UsersLeft,
    UserStateChanged,
)
from channelstream.core.moment import Moment
from channelstream.core.presence_events import MAX_LISTED_USERS
from channelstream.core.registry import Registry
from channelstream.core.registry_limits import RegistryLimits
from channelstream.core.user import MAX_STATE_KEYS, User
from channelstream.errors import Invalid

ALWAYS, IF_ANNOUNCED = PresenceAudience.ALWAYS, PresenceAudience.IF_ANNOUNCED
NOW_S = 1_700_000_000.0
STEADY_S = 5000.0


def at(after_s: float) -> Moment:
    """Return a moment so many seconds after the beginning of a test."""
    return Moment(NOW_S + after_s, STEADY_S + after_s)


NOW = at(0)


class Bench:
    """A registry, and events numbered as an engine does it."""

    def __init__(self, limits: RegistryLimits | None = None) -> None:
        ids = (f"id{number}" for number in count())
        self.registry = Registry(limits or RegistryLimits(), lambda: next(ids))
        self.offset = 0

    def user(self, name: str, now: Moment = NOW, **state: Any) -> User:
        user = self.registry.open_user(name, state, self.offset, now)
        self.registry.connect(user, now)
        return user

    def channel(self, name: str, now: Moment = NOW, **settings: Any) -> Channel:
        return self.registry.open_channel(name, settings, self.offset, now)

    def commit(self, event: Event, now: Moment = NOW) -> Entry:
        self.offset += 1
        entry = Entry(self.offset, f"e-{self.offset}", now.steady_s, event)
        self.registry.commit(entry, now.wall_s)
        return entry

    def join(self, channel: Channel, user: User, presence: PresenceAudience = IF_ANNOUNCED) -> list[Event]:
        return self.registry.join(channel, user, presence, NOW)

    def part(self, channel: Channel, user: User, presence: PresenceAudience = IF_ANNOUNCED) -> list[Event]:
        return self.registry.leave_and_announce(channel, user, presence, NOW)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    registry = bench.registry
    logs = [channel.log for channel in registry.channels.values()]
    logs += [channel.history for channel in registry.channels.values()]
    logs += [user.log for user in registry.users.values()]
    assert registry.budget.used_bytes == counted_bytes(logs, registry.budget)


def message(uuid: str, channel: str | None = "a", **rest: Any) -> Message:
    return Message(uuid=uuid, channel=channel, user="ann", payload=b'"hi"', timestamp="t", **rest)


def uuids(entries: list[Entry]) -> list[str]:
    return [entry.event.uuid for entry in entries]


# -- users


def test_a_new_user_gets_its_fresh_state_and_a_known_one_does_not(bench: Bench) -> None:
    """`fresh_user_state` counts for new users."""
    user = bench.user("ann", mood=1, departures=None)
    assert user.state == {"mood": 1}
    assert bench.user("ann", mood=2) is user
    assert user.state == {"mood": 1}
    assert user.connections == 2


def test_a_state_has_at_most_256_keys(bench: Bench) -> None:
    """Existing keys, those for new users and set ones count together, each once."""
    full = {f"k{number}": number for number in range(MAX_STATE_KEYS)}
    bench.registry.check_state("new", {}, {})
    bench.registry.check_state("new", full, {"k1": 5})
    with pytest.raises(Invalid, match="at most 256 keys"):
        bench.registry.check_state("new", full, {"one more": 5})
    bench.user("ann", **full)
    bench.registry.check_state("ann", {"k1": 5})
    with pytest.raises(Invalid) as refused:
        bench.registry.check_state("ann", {"one more": 5})
    bench.registry.check_state("ann", {"one more": 5, "k1": None})
    assert set(refused.value.faults) == {"user_state"}


def test_a_new_user_has_missed_nothing_yet(bench: Bench) -> None:
    """Its log begins at the engine's current offset."""
    bench.commit(message("m1"))
    assert bench.user("ann").log.floor == 1


def test_a_change_of_public_state_is_announced_in_every_channel_with_notify_state(bench: Bench) -> None:
    """One event per channel with notify_state, in order of names, with public keys only."""
    ann = bench.user("ann", secret=1, mood="fine", status=2)
    ann.publish_keys(["mood", "status"])
    for name, wanted in (("b", True), ("a", True), ("quiet", False)):
        bench.join(bench.channel(name, notify_state=wanted), ann)
    bench.channel("elsewhere", notify_state=True)
    before = ann.public_state
    ann.update_state({"secret": 2, "status": 3})
    events = list(bench.registry.state_events(ann, before, NOW_S))
    assert [event.channel for event in events] == ["a", "b"]
    for event in events:
        assert isinstance(event, UserStateChanged)
        assert (event.user, event.timestamp) == ("ann", "2023-11-14T22:13:20.000000")
        assert (event.state, event.changed) == ({"mood": "fine", "status": 3}, (("status", 3),))
    assert events[0].uuid != events[1].uuid


def test_a_removed_public_key_is_announced_as_null(bench: Bench) -> None:
    """The state beside it no longer has the key; a removed private key is not announced."""
    ann = bench.user("ann", mood=1, secret=2)
    ann.publish_keys(["mood"])
    bench.join(bench.channel("a", notify_state=True), ann)
    before = ann.public_state
    ann.update_state({"mood": None, "secret": None})
    (event,) = bench.registry.state_events(ann, before, NOW_S)
    assert isinstance(event, UserStateChanged)
    assert (event.state, event.changed) == ({}, (("mood", None),))


def test_a_change_of_private_state_is_not_announced(bench: Bench) -> None:
    """No event with nothing in it goes out; the same for no change at all."""
    ann = bench.user("ann")
    ann.publish_keys(["mood"])
    bench.join(bench.channel("a", notify_state=True), ann)
    before = ann.public_state
    ann.update_state({"secret": 1})
    assert list(bench.registry.state_events(ann, before, NOW_S)) == []


def test_a_change_of_the_public_keys_of_a_user_is_announced(bench: Bench) -> None:
    """A key that becomes public with its value, one that is hidden as null; one without a value is nothing."""
    ann = bench.user("ann", flag=1, mood=1, secret=2)
    ann.publish_keys(["flag", "mood"])
    bench.join(bench.channel("a", notify_state=True), ann)
    before = ann.public_state
    ann.publish_keys(["flag", "secret", "unknown"])
    ann.update_state({"flag": True})
    (event,) = bench.registry.state_events(ann, before, NOW_S)
    assert isinstance(event, UserStateChanged)
    assert event.changed == (("flag", True), ("mood", None), ("secret", 2))
    assert event.state == {"flag": True, "secret": 2}


def test_an_event_keeps_the_state_it_was_made_with(bench: Bench) -> None:
    """A later change does not alter earlier announcements."""
    ann = bench.user("ann", mood=1)
    ann.publish_keys(["mood"])
    bench.join(bench.channel("a", notify_state=True), ann)
    before = ann.public_state
    ann.update_state({"mood": 2})
    (event,) = bench.registry.state_events(ann, before, NOW_S)
    ann.update_state({"mood": 3})
    assert isinstance(event, UserStateChanged)
    assert event.state == {"mood": 2}


# -- channels


def test_settings_of_a_known_channel_are_not_touched_by_opening_it(bench: Bench) -> None:
    """They apply to new channels only."""
    channel = bench.channel("a", history_size=3)
    assert bench.channel("a", history_size=5) is channel
    assert channel.settings.history_size == 3


def test_a_patch_keeps_the_other_settings(bench: Bench) -> None:
    """Settings not named stay as they are; an unknown channel is created with the defaults."""
    bench.channel("a", notify_presence=True, store_history=True)
    channel = bench.registry.configure("a", {"history_size": 3}, 0, NOW)
    settings = channel.settings
    assert (settings.notify_presence, settings.store_history, settings.history_size) == (True, True, 3)
    new = bench.registry.configure("b", {"notify_state": True}, 7, NOW)
    assert (new.settings.notify_state, new.settings.history_size, new.log.floor) == (True, 10, 7)


def test_the_size_of_a_history_is_bounded() -> None:
    """The server's bound wins, at creation and later."""
    bench = Bench(RegistryLimits(history_size=4))
    assert bench.channel("a", history_size=99).settings.history_size == 4
    assert bench.registry.configure("a", {"history_size": 50}, 0, NOW).settings.history_size == 4


def test_defaults_come_from_the_limits() -> None:
    """The server's limits apply unless a channel has its own."""
    bench = Bench(RegistryLimits(log_events=7, log_age_s=33.0, user_log_events=5, transit_s=20.0))
    channel = bench.channel("a")
    assert (channel.log.limits.events, channel.log.limits.age_s) == (7, 33.0)
    short = bench.channel("b", store_frames=False)
    assert (short.log.limits.events, short.log.limits.age_s) == (7, 20.0)
    user = bench.user("ann")
    assert (user.log.limits.events, user.log.limits.age_s) == (5, 33.0)


# -- presence


def test_presence_announces_the_first_join_and_the_last_leave(bench: Bench) -> None:
    """With the public state of a join, and none of a leave."""
    ann = bench.user("ann", mood=1, secret=2)
    ann.publish_keys(["mood"])
    channel = bench.channel("a", notify_presence=True)
    (joined,) = bench.join(channel, ann)
    assert bench.join(channel, ann) == []
    assert bench.part(channel, ann) == []
    assert ann.channels == {"a"}
    (parted,) = bench.part(channel, ann)
    assert ann.channels == set()
    assert isinstance(joined, Presence)
    assert isinstance(parted, Presence)
    assert (joined.joined, joined.state, joined.users, joined.announced) == (True, {"mood": 1}, (), True)
    assert (parted.joined, parted.state, parted.user, parted.channel) == (False, None, "ann", "a")


def test_presence_is_not_announced_where_nobody_wants_it(bench: Bench) -> None:
    """Without notify_presence and without a seed connection there is no event at all."""
    channel = bench.channel("a")
    ann = bench.user("ann")
    assert bench.join(channel, ann) == []
    assert bench.part(channel, ann) == []


def test_always_connections_always_receive_presence(bench: Bench) -> None:
    """Without notify_presence the event is for them alone, and carries no user list."""
    channel = bench.channel("a", broadcast_presence_with_user_lists=True)
    bench.join(channel, bench.user("old"), ALWAYS)
    (event,) = bench.join(channel, bench.user("ann"))
    assert isinstance(event, Presence)
    assert (event.announced, event.users) == (False, ())
    assert event.is_for("old", ALWAYS)
    assert not event.is_for("other", IF_ANNOUNCED)


def test_a_user_list_is_bounded(bench: Bench) -> None:
    """In a channel of more users presence goes without a list, as it costs its size times its receivers."""
    channel = bench.channel("a", notify_presence=True, broadcast_presence_with_user_lists=True)
    events = [bench.join(channel, bench.user(f"u{number}"))[0] for number in range(MAX_LISTED_USERS + 1)]
    lists = [(len(event.users), event.users_cut) for event in events[-2:] if isinstance(event, Presence)]
    assert lists == [(MAX_LISTED_USERS, False), (0, True)]
    [parted] = bench.registry.presence.departures(channel, ["u1", "u2"], 0.0)
    assert isinstance(parted, UsersLeft)
    assert [each.users_cut for _, each in parted.split()] == [True, True]
    quiet = bench.channel("b", notify_presence=True)
    [event] = bench.join(quiet, bench.user("ann"))
    assert isinstance(event, Presence)
    assert (event.users, event.users_cut) == ((), False)


def test_a_user_list_travels_where_the_channel_asks_for_it(bench: Bench) -> None:
    """All members with their public state, with the user that joined, without the one that left."""
    channel = bench.channel("a", notify_presence=True, broadcast_presence_with_user_lists=True)
    ann, bob = bench.user("ann", mood=1), bench.user("bob")
    ann.publish_keys(["mood"])
    bench.join(channel, ann)
    (joined,) = bench.join(channel, bob)
    (parted,) = bench.part(channel, bob)
    assert isinstance(joined, Presence)
    assert isinstance(parted, Presence)
    assert joined.users == (("ann", {"mood": 1}), ("bob", {}))
    assert parted.users == (("ann", {"mood": 1}),)


# -- logs


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
    assert cid.log.entries == []
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
    assert registry.entries_about(of_m1) == [entry]
    assert registry.entries_about(MessageDeleted(uuid="p1", only=frozenset({"cid", "bob"}))) == [private]
    channel.log.clear()
    assert (registry.entries_about(of_m1), registry.history_message(of_m1)) == ([], entry)
    assert registry.knows("a", "m1")
    channel.history.clear()
    assert registry.history_message(of_m1) is None
    assert not registry.knows("a", "m1")
    assert not registry.knows("unknown", "m1")
    for elsewhere in (MessageDeleted(uuid="m1", channel="unknown"), MessageDeleted(uuid="m1")):
        assert (registry.entries_about(elsewhere), registry.history_message(elsewhere)) == ([], None)


# -- ageing


def test_a_user_is_forgotten_after_its_time_without_connections(bench: Bench) -> None:
    """Not at the limit but after it, with its log; connected ones stay for ever."""
    bench.user("here")
    gone = bench.user("gone")
    bench.commit(message("p1", channel=None, only=frozenset({"gone"})))
    bench.registry.disconnect(gone, NOW)
    bench.registry.collect(STEADY_S + 10, users_after_s=10, channels_after_s=10)
    assert set(bench.registry.users) == {"here", "gone"}
    bench.registry.collect(STEADY_S + 11, users_after_s=10, channels_after_s=10)
    assert set(bench.registry.users) == {"here"}
    assert gone.log.entries == []


def test_activity_postpones_being_forgotten(bench: Bench) -> None:
    """The one idle for longest goes first, whichever came first."""
    for name in ("first", "second"):
        bench.registry.open_user(name, {}, 0, NOW)
    bench.registry.touch_user(bench.registry.users["first"], at(5))
    bench.registry.collect(STEADY_S + 11, users_after_s=10, channels_after_s=0)
    assert set(bench.registry.users) == {"first"}


def test_no_step_copies_the_idle_users(bench: Bench) -> None:
    """An ordered dict of them would be copied now and then, in the turn of the event loop of one user."""
    users = [bench.user(f"u{number}") for number in range(10_000)]
    tracemalloc.start()
    try:
        for user in users:
            bench.registry.disconnect(user, NOW)
        for user in users:
            bench.registry.connect(user, NOW)
            bench.registry.disconnect(user, NOW)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 10_000


def test_an_empty_channel_is_forgotten_after_its_time(bench: Bench) -> None:
    """With log and history; a channel with members or a recent message stays."""
    empty, full, busy = (bench.channel(name, store_history=True) for name in ("empty", "full", "busy"))
    bench.join(full, bench.user("ann"))
    for name in ("empty", "full"):
        bench.commit(message(name, channel=name))
    bench.commit(message("busy", channel="busy"), at(5))
    bench.registry.collect(STEADY_S + 11, users_after_s=10, channels_after_s=10)
    assert set(bench.registry.channels) == {"full", "busy"}
    assert (empty.log.entries, empty.history.entries) == ([], [])
    bench.part(full, bench.registry.users["ann"])
    bench.registry.collect(STEADY_S + 99, users_after_s=10, channels_after_s=10)
    assert busy.name not in bench.registry.channels
    assert bench.registry.channels == {}


@pytest.mark.parametrize("set_s", [3600, -3600, 86_400, -86_400])
def test_setting_the_wall_clock_neither_forgets_nor_keeps_what_is_idle(bench: Bench, set_s: float) -> None:
    """Idle time is measured by the clock that never jumps; the pages show the wall time of the last activity."""
    for name in ("before", "after"):
        now = Moment(NOW_S + (set_s if name == "after" else 0), STEADY_S)
        bench.registry.open_user(name, {}, 0, now)
        bench.channel(name, now)
    assert bench.registry.users["after"].last_active_s == NOW_S + set_s
    bench.registry.collect(STEADY_S + 10, users_after_s=10, channels_after_s=10)
    assert set(bench.registry.users) == set(bench.registry.channels) == {"before", "after"}
    bench.registry.collect(STEADY_S + 11, users_after_s=10, channels_after_s=10)
    assert bench.registry.users == bench.registry.channels == {}


def test_zero_keeps_for_ever(bench: Bench) -> None:
    """0 switches off each of the lifetimes."""
    bench.registry.open_user("ann", {}, 0, NOW)
    bench.channel("a")
    bench.registry.collect(STEADY_S * 2, users_after_s=0, channels_after_s=0)
    assert set(bench.registry.users) == {"ann"}
    assert set(bench.registry.channels) == {"a"}


def test_idle_times_may_be_set_in_any_order(bench: Bench) -> None:
    """Once they are in order, those that are idle for the longest time are forgotten first."""
    for name, age_s in (("new", 5.0), ("old", 50.0)):
        bench.registry.open_user(name, {}, 0, NOW).idle_since_s -= age_s
        bench.channel(name).idle_since_s -= age_s
    bench.registry.order_idle()
    bench.registry.collect(STEADY_S, users_after_s=10, channels_after_s=10)
    assert set(bench.registry.users) == set(bench.registry.channels) == {"new"}


def test_a_connection_is_restored_with_its_user_and_channels(bench: Bench) -> None:
    """Known or not; nobody joins."""
    known = bench.channel("known")
    bench.registry.restore_connection("ann", ["known", "new"], ALWAYS, 7, NOW)
    assert (known.users, known.always_connections) == ({"ann": 1}, 1)
    user, new = bench.registry.users["ann"], bench.registry.channels["new"]
    assert (user.connections, user.channels, user.log.floor) == (1, {"known", "new"}, 7)
    assert (new.users, new.log.floor) == ({"ann": 1}, 7)


CHURN = st.lists(
    st.tuples(
        st.sampled_from(["connect", "disconnect", "join", "part", "say", "configure", "touch", "collect"]),
        st.integers(0, 2),
        st.integers(0, 2),
        st.integers(0, 30),
        st.sampled_from([0, 0, 0, 3600, -3600, 86_400, -86_400]),
    ),
    max_size=60,
)


class Churn:
    """Users and channels that come and go at random, with the counts they should have."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.registry = self.bench.registry
        self.now = NOW
        self.connected: list[str] = []
        self.joined: list[tuple[str, str]] = []

    def pass_time(self, wait_s: int, set_s: int) -> None:
        """Let time pass, while somebody sets the wall clock."""
        self.now = Moment(self.now.wall_s + wait_s + set_s, self.now.steady_s + wait_s)

    def connect(self, user: str, _: str) -> None:
        self.bench.user(user, self.now)
        self.connected.append(user)

    def disconnect(self, user: str, _: str) -> None:
        if user in self.connected:
            for name in [channel for member, channel in self.joined if member == user]:
                self.part(user, name)
            self.connected.remove(user)
            self.registry.disconnect(self.registry.users[user], self.now)

    def join(self, user: str, name: str) -> None:
        if user in self.connected:
            channel = self.bench.channel(name, self.now)
            self.registry.join(channel, self.registry.users[user], IF_ANNOUNCED, self.now)
            self.joined.append((user, name))

    def part(self, user: str, name: str) -> None:
        if (user, name) in self.joined:
            self.registry.leave_and_announce(
                self.registry.channels[name], self.registry.users[user], IF_ANNOUNCED, self.now
            )
            self.joined.remove((user, name))

    def say(self, user: str, name: str) -> None:
        self.bench.commit(message("m", channel=name), self.now)
        self.bench.commit(message("p", channel=None, only=frozenset({user})), self.now)

    def configure(self, _: str, name: str) -> None:
        self.registry.configure(name, {"store_history": True}, self.bench.offset, self.now)

    def touch(self, user: str, _: str) -> None:
        if user in self.registry.users:
            self.registry.touch_user(self.registry.users[user], self.now)

    def collect(self, _: str, __: str) -> None:
        self.registry.collect(self.now.steady_s, users_after_s=20, channels_after_s=30)
        self._check_the_forgotten()

    def _check_the_forgotten(self) -> None:
        for user in self.registry.users.values():
            assert user.connections or self.now.steady_s - user.idle_since_s <= 20
        for channel in self.registry.channels.values():
            assert channel.connections or self.now.steady_s - channel.idle_since_s <= 30

    def agree(self) -> None:
        users, channels = self.registry.users, self.registry.channels
        assert {name: user.connections for name, user in users.items() if user.connections} == {
            name: self.connected.count(name) for name in self.connected
        }
        assert {(user, name) for name, channel in channels.items() for user in channel.users} == set(
            self.joined
        )
        assert {(name, channel) for name, user in users.items() for channel in user.channels} == set(
            self.joined
        )


@given(CHURN)
def test_random_joins_and_leaves_are_counted_and_forgotten(
    steps: list[tuple[str, int, int, int, int]],
) -> None:
    """Connected users stay and idle ones go, however the wall clock is set; no step fails."""
    churn = Churn()
    for step, user, channel, wait_s, set_s in steps:
        churn.pass_time(wait_s, set_s)
        getattr(churn, step)(f"u{user}", f"c{channel}")
        churn.agree()
