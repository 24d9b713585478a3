"""The registry: users, channels and presence, and the events of each change."""

from collections.abc import Iterator

import pytest
from tests.core.registry_bench import ALWAYS, IF_ANNOUNCED, NOW, NOW_S, Bench, message

from channelstream.core.events import Presence, UsersLeft, UserStateChanged
from channelstream.core.presence_events import MAX_LISTED_USERS
from channelstream.core.registry_limits import RegistryLimits
from channelstream.core.user import MAX_STATE_KEYS
from channelstream.errors import Invalid


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.check_budget()


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
