"""What every `Directory` must do: users, their states and their membership; what is forgotten, and when."""

import asyncio
from typing import Any

import pytest
from tests.engines.conformance.lab import (
    EMPTY,
    Lab,
    message,
)

from channelstream.apps.keys import make_member_key
from channelstream.core.events import (
    Presence,
    UserStateChanged,
)
from channelstream.core.user import MAX_STATE_BYTES, MAX_STATE_KEYS, UserUpdate
from channelstream.engines.members import Member
from channelstream.errors import Invalid
from channelstream.wire.channelstream import V07

# -- a start


def test_the_first_start_restores_no_connections(lab: Lab) -> None:
    """There was no run before, or its connections have left with their node."""
    assert list(lab.run(lab.engine.restored_connections())) == []


# -- users


def test_a_started_engine_is_reachable(lab: Lab) -> None:
    """Before the first call as well as after it."""
    assert lab.engine.is_reachable
    assert lab.engine.is_partly_reachable
    lab.connect("ann", "a")
    assert lab.engine.is_reachable
    assert lab.engine.is_partly_reachable


def test_the_bytes_of_the_logs_grow_with_them(lab: Lab) -> None:
    """Where the engine has them in this process."""
    lab.connect("ann", "a")
    before = lab.engine.log_bytes
    lab.publish(message("m1"))
    after = lab.engine.log_bytes
    assert after is None if before is None else after is not None and after > before


def test_fresh_state_is_for_new_users_only(lab: Lab) -> None:
    """`state` of the request applies to known users too and counts as a change."""
    member = Member("1", "ann", V07)
    update = UserUpdate({"status": 1}, {"mood": "new", "status": 0}, ["status"])
    lab.run(lab.engine.connect(member, update))
    assert lab.user("ann").state == {"mood": "new", "status": 1}
    other = Member("2", "ann", V07)
    lab.run(lab.engine.connect(other, UserUpdate({}, {"mood": "newer"})))
    assert lab.user("ann").state == {"mood": "new", "status": 1}
    assert lab.user("ann").public_state == {"status": 1}


def test_the_first_connection_of_a_user_replaces_its_state(lab: Lab) -> None:
    """All of it, public from then on; that of a user who has another connection stays as it is."""
    first = [UserUpdate({}, {}, first={"name": "Ann", "age": 7}), UserUpdate({}, {}, first={"age": 8})]
    lab.connect("ann", "a", notify_presence=True, notify_state=True)
    watcher = lab.connect("zoe", "a")
    tabs = [Member(f"tab{number}", "bob", V07) for number in range(3)]
    lab.recorder.members |= {tab.conn_id: (tab, set()) for tab in tabs}
    for tab, update in zip(tabs[:2], first, strict=True):
        assert lab.run(lab.engine.connect(tab, update)) is not None
        lab.join(tab, "a")
    assert lab.user("bob").public_state == {"name": "Ann", "age": 7}
    for tab in tabs[:2]:
        lab.disconnect(tab, "a")
    assert lab.run(lab.engine.connect(tabs[2], UserUpdate({"extra": 1}, {}, first={"age": 8}))) is not None
    lab.join(tabs[2], "a")
    assert (lab.user("bob").public_state, lab.user("bob").state) == ({"age": 8}, {"age": 8, "extra": 1})
    joined = [each.state for each in lab.received() if isinstance(each, Presence) and each.user == "bob"]
    assert joined == [{"name": "Ann", "age": 7}, None, {"age": 8}]
    assert not [each for each in lab.received() if isinstance(each, UserStateChanged)]
    lab.disconnect(watcher, "a")


def test_public_keys_stay_unless_given(lab: Lab) -> None:
    """None keeps them, a list replaces them, an addition adds."""
    lab.connect("ann")

    def keys(update: UserUpdate) -> tuple[str, ...]:
        change = lab.run(lab.engine.update_user("ann", update))
        assert change is not None
        return change.user.public_keys

    assert keys(UserUpdate({}, {}, ["a", "b"])) == ("a", "b")
    assert keys(UserUpdate({}, {}, None)) == ("a", "b")
    assert keys(UserUpdate({}, {}, None, ["status", "a"])) == ("a", "b", "status")
    assert keys(UserUpdate({}, {}, [])) == ()


def test_a_change_of_public_state_is_announced_where_notify_state_is_on(lab: Lab) -> None:
    """Once per channel of the user, with the public part of what changed."""
    lab.connect("ann", "a", "b", notify_state=True)
    lab.join(Member("of-ann", "ann", V07), "quiet")
    update = UserUpdate({"mood": 1, "secret": 2}, {}, ["mood"])
    change = lab.run(lab.engine.update_user("ann", update))
    assert change is not None
    assert change.changed == [("mood", 1), ("secret", 2)]
    announced = [each for each in lab.received() if isinstance(each, UserStateChanged)]
    assert [(each.channel, each.state, each.changed) for each in announced] == [
        ("a", {"mood": 1}, (("mood", 1),)),
        ("b", {"mood": 1}, (("mood", 1),)),
    ]


def test_a_private_or_empty_change_is_not_announced(lab: Lab) -> None:
    """Private keys, the same value again, null for an unknown key, a key made public that has no value."""
    lab.connect("ann", "a", notify_state=True)
    for update in (
        UserUpdate({"secret": 1}, {}),
        UserUpdate({"secret": 1, "unknown": None}, {}, ["valueless"]),
    ):
        lab.run(lab.engine.update_user("ann", update))
    assert lab.received() == []
    assert lab.user("ann").state == {"secret": 1}


def test_a_change_of_the_public_keys_is_announced(lab: Lab) -> None:
    """A key that becomes public with its value, one that is hidden as null, by `connect` as well."""
    lab.connect("ann", "a", notify_state=True)
    lab.run(lab.engine.update_user("ann", UserUpdate({"mood": 1, "secret": 2}, {}, ["mood"])))
    lab.run(lab.engine.update_user("ann", UserUpdate({}, {}, ["secret"])))
    lab.run(lab.engine.connect(Member("2", "ann", V07), UserUpdate({}, {}, None, ["mood"])))
    announced = [each for each in lab.received() if isinstance(each, UserStateChanged)]
    assert [(each.state, each.changed) for each in announced] == [
        ({"mood": 1}, (("mood", 1),)),
        ({"secret": 2}, (("mood", None), ("secret", 2))),
        ({"secret": 2, "mood": 1}, (("mood", 1),)),
    ]


def test_one_and_true_are_different_values(lab: Lab) -> None:
    """1 and true are different in JSON."""
    lab.connect("ann", "a", notify_state=True)
    lab.run(lab.engine.update_user("ann", UserUpdate({"flag": 1}, {}, ["flag"])))
    lab.run(lab.engine.update_user("ann", UserUpdate({"flag": True}, {})))
    assert len(lab.received()) == 2
    assert lab.user("ann").state["flag"] is True


def test_state_set_by_connect_is_announced(lab: Lab) -> None:
    """A second connection that changes public state is announced in the channels of the first."""
    lab.connect("ann", "a", notify_state=True)
    update = UserUpdate({"mood": 1}, {}, ["mood"])
    lab.run(lab.engine.connect(Member("2", "ann", V07), update))
    (event,) = lab.received()
    assert isinstance(event, UserStateChanged)
    assert event.changed == (("mood", 1),)


def test_a_state_that_grows_too_large_is_refused_whole(lab: Lab) -> None:
    """Nothing is stored, announced or registered: neither an update nor a connection."""
    lab.connect("ann", "a", notify_state=True)
    too_much = UserUpdate({f"k{number}": number for number in range(MAX_STATE_KEYS + 1)}, {}, ["k1"])
    with pytest.raises(Invalid):
        lab.run(lab.engine.update_user("ann", too_much))
    for name in ("ann", "new"):
        with pytest.raises(Invalid):
            lab.run(lab.engine.connect(Member("2", name, V07), too_much))
    (user,) = lab.users()
    assert (user.state, user.public_keys, user.connections, lab.received()) == ({}, (), 1, [])


def test_a_state_of_too_many_bytes_is_refused_whole(lab: Lab) -> None:
    """Keys and values count as JSON, together with those there are."""
    lab.connect("ann", "a", notify_state=True)
    lab.run(lab.engine.update_user("ann", UserUpdate({"half": "x" * (MAX_STATE_BYTES // 2)}, {})))
    more = UserUpdate({"more": "\u00e9" * (MAX_STATE_BYTES // 4)}, {}, ["more"])
    with pytest.raises(Invalid, match="bytes"):
        lab.run(lab.engine.update_user("ann", more))
    with pytest.raises(Invalid, match="bytes"):
        lab.run(lab.engine.connect(Member("2", "ann", V07), more))
    assert (sorted(lab.user("ann").state), lab.user("ann").connections, lab.received()) == (["half"], 1, [])
    lab.run(lab.engine.update_user("ann", UserUpdate({"half": None} | dict(more.values), {}, ["more"])))
    assert sorted(lab.user("ann").state) == ["more"]


def test_a_large_state_is_announced_in_every_channel(lab: Lab) -> None:
    """Also with concurrent changes: each channel is sent no change twice, and the newest state last."""
    channels = [f"c{number}" for number in range(60)]
    lab.connect("ann", *channels, notify_state=True)
    large = UserUpdate({"large": "x" * 40_000}, {}, ["large", "mood"])

    async def both() -> None:
        moods = [lab.engine.update_user("ann", UserUpdate({"mood": mood}, {})) for mood in (1, 2)]
        await asyncio.gather(lab.engine.update_user("ann", large), *moods)

    lab.run(both())
    announced: dict[str | None, list[UserStateChanged]] = {}
    for event in lab.received():
        assert isinstance(event, UserStateChanged)
        announced.setdefault(event.channel, []).append(event)
    assert sorted(name or "" for name in announced) == sorted(channels)
    newest = lab.user("ann").public_state
    assert sorted(newest) == ["large", "mood"]
    for events in announced.values():
        assert events[-1].state == newest
        assert len({event.changed for event in events}) == len(events)


def test_a_null_removes_a_key_and_makes_room(lab: Lab) -> None:
    """Public ones too, which is announced; below its bound again, a state takes new keys."""
    lab.connect("ann", "a", notify_state=True)
    full: dict[str, Any] = {f"k{number}": number for number in range(MAX_STATE_KEYS)}
    lab.run(lab.engine.update_user("ann", UserUpdate(full, {}, ["k0", "k1"])))
    removal = UserUpdate({"k0": None, "new": 1, "unknown": None}, {})
    change = lab.run(lab.engine.update_user("ann", removal))
    assert change is not None
    assert change.changed == [("k0", None), ("new", 1)]
    event = lab.received()[-1]
    assert isinstance(event, UserStateChanged)
    assert (event.state, event.changed) == ({"k1": 1}, (("k0", None),))
    user = lab.user("ann")
    assert "k0" not in user.state
    assert len(user.state) == MAX_STATE_KEYS
    lab.run(lab.engine.connect(Member("2", "ann", V07), UserUpdate({"k1": None}, {})))
    assert (lab.user("ann").public_state, len(lab.user("ann").state)) == ({}, MAX_STATE_KEYS - 1)


def test_an_unknown_user_is_not_made_by_an_update(lab: Lab) -> None:
    """The answer is None, and no user is created."""
    assert lab.run(lab.engine.update_user("nobody", EMPTY)) is None
    assert lab.users() == []


# -- ageing


def test_idle_users_and_channels_are_forgotten_after_their_time(lab: Lab) -> None:
    """Users without connections first, then empty channels; connected users stay."""
    lab.connect("here", "kept")
    lab.disconnect(lab.connect("gone", "left"), "left")
    lab.collect(after_s=1000.0)
    assert {user.name for user in lab.users()} == {"here", "gone"}
    lab.collect(after_s=0.5)
    assert {user.name for user in lab.users()} == {"here"}
    assert {channel.name for channel in lab.channels()} == {"kept", "left"}
    lab.collect(after_s=1000.0)
    assert {channel.name for channel in lab.channels()} == {"kept"}


def test_a_user_to_whom_nobody_comes_back_is_forgotten_soon(lab: Lab) -> None:
    """A member whose name counts in one channel only; not while it has a connection, and others are kept as ever."""
    ann, bob = (make_member_key("default", "a", name) for name in ("ann", "bob"))
    lab.disconnect(lab.connect("gone", "a"), "a")
    lab.connect(bob, "a")
    lab.disconnect(lab.connect(ann, "a"), "a")
    lab.collect(after_s=1.0)
    assert {user.name for user in lab.users()} == {"gone", bob}
    lab.connect(ann, "a", conn_id="again")
    lab.collect(after_s=1.0)
    assert {user.name for user in lab.users()} == {"gone", ann, bob}


@pytest.mark.parametrize("set_s", [3600.0, -3600.0, 86_400.0, -86_400.0])
def test_setting_the_wall_clock_changes_no_lifetime(lab: Lab, set_s: float) -> None:
    """Users and channels are forgotten after the time that has passed, whatever the clock on the wall says."""
    if not lab.engine.cluster.is_single:
        pytest.skip("its times are those of the service, which has no other clock")
    lab.disconnect(lab.connect("ann", "a"), "a")
    lab.clock.set_s += set_s
    lab.collect(after_s=1000.0)
    assert [user.name for user in lab.users()] == ["ann"]
    lab.collect(after_s=0.5)
    assert lab.users() == []
    lab.clock.set_s -= set_s
    lab.collect(after_s=999.5)
    assert [channel.name for channel in lab.channels()] == ["a"]
    lab.collect(after_s=0.5)
    assert lab.channels() == []


def test_a_touched_user_is_kept(lab: Lab) -> None:
    """A request about an idle user counts as activity."""
    lab.disconnect(lab.connect("ann"))
    lab.clock.passed_s += 900.0
    lab.run(lab.engine.update_user("ann", EMPTY))
    lab.collect(after_s=900.0)
    assert [user.name for user in lab.users()] == ["ann"]


def test_a_recreated_channel_is_a_new_one(lab: Lab) -> None:
    """The entries of the forgotten one are lost, never silently skipped."""
    lab.disconnect(lab.connect("ann", "a", history_size=3), "a")
    before = lab.head()
    lab.publish(message("m1"))
    lab.collect(after_s=2000.5)
    lab.connect("ann", "a")
    assert lab.channel("a").settings.history_size == 10
    assert lab.replay("ann", a=before).lost == {"a"}
