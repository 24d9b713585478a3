"""What every `Directory` must do with channels: their settings, their members and the states of these."""

import pytest
from tests.engines.conformance.lab import (
    EMPTY,
    Lab,
    message,
    uuids,
)

from channelstream.core.events import (
    Message,
    MessageDeleted,
    MessageEdited,
    Presence,
)
from channelstream.core.registry_limits import RegistryLimits
from channelstream.core.user import UserUpdate
from channelstream.engines.members import Member
from channelstream.wire.channelstream import V07

LONGEST_HISTORY = RegistryLimits().history_size


def test_settings_apply_to_new_channels_only(lab: Lab) -> None:
    """Joining a known channel leaves it as it is."""
    lab.connect("ann", "a", history_size=3)
    lab.connect("bob", "a", history_size=5)
    assert lab.channel("a").settings.history_size == 3


def test_configuring_keeps_settings_not_named(lab: Lab) -> None:
    """Known channels change in the named settings, unknown ones are created."""
    lab.configure("a", notify_presence=True)
    lab.configure("a", history_size=3)
    settings = lab.channel("a").settings
    assert (settings.notify_presence, settings.history_size) == (True, 3)


@pytest.mark.parametrize("asked", [LONGEST_HISTORY, LONGEST_HISTORY + 1])
def test_no_channel_has_a_longer_history_than_the_limits_allow(lab: Lab, asked: int) -> None:
    """Neither a new one nor one that is configured later: it has the longest one instead."""
    lab.connect("ann", "new", history_size=asked)
    lab.configure("known", notify_presence=True)
    lab.configure("known", history_size=asked)
    assert [lab.channel(name).settings.history_size for name in ("new", "known")] == [LONGEST_HISTORY] * 2


def test_configuring_keeps_what_the_new_settings_keep(lab: Lab) -> None:
    """A change of settings drops nothing that is neither too old nor too much by the new ones."""
    lab.connect("ann", "a")
    lab.publish(message("m0"), message("m1"))
    lab.configure("a", notify_state=True)
    assert uuids(lab.replay("ann", a=0)) == ["m0", "m1"]


def test_history_shows_the_last_messages_in_their_current_form(lab: Lab) -> None:
    """Edited ones with their new text, without deleted ones, at most as many as the channel shows."""
    lab.connect("ann", "a", store_history=True, history_size=3)
    lab.publish(*(message(f"m{number}") for number in range(5)))
    lab.publish(
        MessageEdited(uuid="m3", channel="a", edited="t", payload=b'"ho"'),
        MessageDeleted(uuid="m4", channel="a"),
    )
    shown = [entry.event for entry in lab.channel("a").history.entries]
    assert shown == [
        message("m2"),
        Message(uuid="m3", channel="a", user="ann", payload=b'"ho"', timestamp="t", edited="t"),
    ]


def test_a_history_of_size_zero_shows_nothing(lab: Lab) -> None:
    """0 means none, not any number."""
    lab.connect("ann", "a", store_history=True, history_size=0)
    lab.publish(message("m1"))
    assert lab.channel("a").history.entries == []
    assert uuids(lab.replay("ann", a=0)) == ["m1"]


def test_counts_follow_connections(lab: Lab) -> None:
    """Of channels and of users, through joining, leaving and disconnecting."""
    one = lab.connect("ann", "a", "b", conn_id="1")
    lab.connect("ann", "a", conn_id="2")
    assert (lab.channel("a").connections, lab.channel("a").users) == (2, {"ann": 2})
    assert (lab.user("ann").connections, lab.user("ann").channels) == (2, {"a", "b"})
    lab.leave(one, "b")
    lab.disconnect(one, "a")
    assert (lab.channel("a").connections, lab.channel("b").connections) == (1, 0)
    assert (lab.user("ann").connections, lab.user("ann").channels) == (1, {"a"})


def test_many_disconnecting_users_leave_once_each(lab: Lab) -> None:
    """Each with its own offset, in whichever events; a user with another connection there has not left."""
    stays = lab.connect("stays", "a", "b", notify_presence=True)
    lab.connect("ann", "a", conn_id="another of ann")
    names = [f"user {number}" for number in range(5)] + ["ann"]
    crowd = [lab.connect(name, "a", "b") for name in names]
    before = lab.head()
    lab.disconnect_all(crowd, "a", "b")
    parted = [
        (single.event.channel, *single.event.about, single.offset)
        for entry in lab.recorder.entries
        for single in entry.split()
        if isinstance(single.event, Presence) and not single.event.joined
    ]
    assert sorted(each[:2] for each in parted) == sorted(
        [("a", name) for name in names[:-1]] + [("b", name) for name in names]
    )
    assert (lab.channel("a").users, lab.channel("b").users) == ({"stays": 1, "ann": 1}, {"stays": 1})
    assert {user.name: user.connections for user in lab.users(*names)} == {
        **dict.fromkeys(names[:-1], 0),
        "ann": 1,
    }
    of_a = [offset for channel, _, offset in parted if channel == "a"]
    for number, offset in enumerate([before, *of_a]):  # Whichever of them a client has received last.
        rest = [s.offset for e in lab.replay("stays", a=offset).entries for s in e.split()]
        assert rest == of_a[number:]
    lab.disconnect_all([stays], "a", "b")
    assert lab.channel("a").connections == 1
    lab.run(lab.engine.disconnect_all([]))


def test_users_are_counted_without_listing_them(lab: Lab) -> None:
    """At a cost that does not grow with their number."""
    lab.connect("ann", "a", conn_id="1")
    lab.connect("ann", "a", conn_id="2")
    lab.connect("bob", "a")
    [counted] = lab.run(lab.engine.channels(["a"], with_users=False))
    assert (counted.user_count, counted.connections) == (2, 3)
    assert lab.channel("a").user_count == 2


def test_unknown_names_are_left_out_of_the_answer(lab: Lab) -> None:
    """Names of channels and users, in the order asked; None means all, an empty list none."""
    lab.connect("ann", "a", "b")
    lab.connect("bob")
    assert [channel.name for channel in lab.channels("b", "unknown", "a")] == ["b", "a"]
    assert {channel.name for channel in lab.channels()} == {"a", "b"}
    assert [user.name for user in lab.users("bob", "nobody")] == ["bob"]
    assert {user.name for user in lab.users()} == {"ann", "bob"}
    assert lab.run(lab.engine.channels([])) == []
    assert lab.run(lab.engine.users([])) == []


def test_the_states_of_members_are_found_by_their_channels(lab: Lab) -> None:
    """The current ones, with their public keys, in the order asked; unknown users are left out."""
    lab.connect("ann", "a", "b")
    lab.connect("bob", "a")
    lab.run(lab.engine.update_user("ann", UserUpdate({"mood": "fine", "key": 1}, {}, ["mood"])))
    states = lab.run(lab.engine.states({"bob": "a", "nobody": "a", "ann": "b"}))
    assert [(user.name, user.state, user.public_state) for user in states] == [
        ("bob", {}, {}),
        ("ann", {"mood": "fine", "key": 1}, {"mood": "fine"}),
    ]
    assert lab.run(lab.engine.states({})) == []


def test_the_members_of_a_channel_are_those_of_an_offset(lab: Lab) -> None:
    """With their public states; every event up to the offset is delivered, and what comes later is after it."""
    ann = Member("of-ann", "ann", V07)
    lab.recorder.members["of-ann"] = (ann, {"a"})
    lab.run(lab.engine.connect(ann, UserUpdate({"mood": "fine", "age": 7}, {}, ["mood"])))
    lab.join(ann, "a", notify_presence=True)
    lab.connect("bob", "a")
    found = lab.run(lab.engine.members_at("a"))
    assert sorted(found.members) == [("ann", {"mood": "fine"}), ("bob", {})]
    joined = [entry.offset for entry in lab.received_entries() if entry.event.channel == "a"]
    assert joined[-1] <= found.offset == lab.head("a")
    lab.disconnect(ann, "a")
    assert [entry.event.user for entry in lab.replay("zoe", a=found.offset).entries] == ["ann"]  # type: ignore[union-attr]
    later = lab.run(lab.engine.members_at("a"))
    assert (later.members, later.offset > found.offset) == ([("bob", {})], True)
    assert lab.run(lab.engine.members_at("unknown")).members == []


def test_very_many_members_of_a_channel_are_found(lab: Lab) -> None:
    """More than one answer of a service has."""
    members = [Member(f"c{number}", f"user{number}", V07) for number in range(1001)]
    for each in members:
        lab.recorder.members[each.conn_id] = (each, {"a"})

    async def join_all() -> None:
        for each in members:
            await lab.engine.connect(each, EMPTY)
            await lab.engine.join(each, {"a": {}})

    lab.run(join_all())
    found = lab.run(lab.engine.members_at("a"))
    assert sorted(found.members) == sorted((each.user, {}) for each in members)


def test_what_is_known_is_counted(lab: Lab) -> None:
    """Idle users and empty channels as well, until they are forgotten."""
    assert lab.run(lab.engine.counts()) == (0, 0)
    lab.connect("ann", "a", "b", "c")
    lab.disconnect(lab.connect("bob", "c", "d"), "c", "d")
    assert lab.run(lab.engine.counts()) == (4, 2)
    lab.collect(after_s=3000.0)
    lab.collect(after_s=3000.0)
    assert lab.run(lab.engine.counts()) == (3, 1)
