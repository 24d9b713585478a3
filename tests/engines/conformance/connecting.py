"""What every `Directory` must do with a connection that joins channels as it is registered."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from tests.engines.conformance.lab import EMPTY, Lab, message

from channelstream.core.events import Presence, UserStateChanged
from channelstream.core.user import MAX_STATE_KEYS, StateValue, UserUpdate
from channelstream.engines.base import Registered
from channelstream.engines.members import Member
from channelstream.errors import Invalid
from channelstream.wire.channelstream import V07

ANN = Member("1", "ann", V07)
MANY = [f"c{number}" for number in range(250)]
"""More channels than one call of Redis takes."""


Connect = Callable[[UserUpdate, Mapping[str, Mapping[str, Any]]], Registered | None]
"""Registers the connection of ann."""


@pytest.fixture(params=[False, True], ids=["later", "at once"])
def connect(lab: Lab, request: pytest.FixtureRequest) -> Connect:
    """Register her as an engine does that waits, and as one does that need not: then the former is not asked."""

    def connect(update: UserUpdate, channels: Mapping[str, Mapping[str, Any]]) -> Registered | None:
        registered = None
        if request.param:
            before = lab.received(), lab.channels(), [user.connections for user in lab.users()]
            registered = lab.engine.connect_at_once(ANN, update, channels)
            assert lab.engine.connects_at_once or registered is None
            if registered is None:
                after = lab.received(), lab.channels(), [user.connections for user in lab.users()]
                assert [len(each) for each in after] == [len(each) for each in before]
                assert after[2] == before[2]
        return registered or lab.run(lab.engine.connect(ANN, update, channels))

    return connect


def test_a_new_connection_is_in_its_channels(lab: Lab, connect: Connect) -> None:
    """From the offsets of the answer on, with the settings that new channels get."""
    lab.connect("bob", "a", "b")
    lab.publish(message("before", channel="a"))
    lab.recorder.members[ANN.conn_id] = (ANN, {"a", "new"})
    registered = connect(EMPTY, {"a": {"log_events": 5}, "new": {"log_events": 7}, "b": {}})
    assert registered is not None
    assert registered.user.name == "ann"
    assert registered.joined == {name: lab.head(name) for name in ("a", "new", "b")}
    assert registered.offsets == lab.engine.position.offsets
    assert [lab.channel(name).users for name in ("a", "new")] == [{"bob": 1, "ann": 1}, {"ann": 1}]
    assert [lab.channel(name).settings.log_events for name in ("a", "new")] == [1000, 7]
    assert lab.user("ann").channels == {"a", "b", "new"}
    lab.publish(message("after", channel="new"))
    assert [event.uuid for event in lab.received()] == ["before", "after"]


def test_a_new_connection_joins_with_its_new_state(lab: Lab, connect: Connect) -> None:
    """Channels that its user is in are sent the change, and the others who joins, in the new state."""
    lab.connect("ann", "a", notify_state=True)
    lab.connect("bob", "b", notify_state=True, notify_presence=True)
    lab.recorder.members[ANN.conn_id] = (ANN, {"b"})
    connect(UserUpdate({"mood": 1}, {}, ["mood"]), {"b": {}})
    changes = [each for each in lab.received() if isinstance(each, UserStateChanged)]
    joined = [each for each in lab.received() if isinstance(each, Presence) and each.user == "ann"]
    assert [(each.channel, each.state) for each in changes] == [("a", {"mood": 1})]
    assert [(each.channel, each.state) for each in joined] == [("b", {"mood": 1})]


def test_a_new_connection_joins_after_the_change_that_it_makes(lab: Lab, connect: Connect) -> None:
    """Also a channel in which its user is already: it is not sent its own change there."""
    lab.connect("ann", "a", conn_id="2", notify_state=True)
    lab.recorder.members[ANN.conn_id] = (ANN, {"a"})
    registered = connect(UserUpdate({"mood": 1}, {}, ["mood"]), {"a": {}})
    assert registered is not None
    assert [each.state for each in lab.received() if isinstance(each, UserStateChanged)] == [{"mood": 1}]
    assert registered.joined == {"a": lab.head("a")}


def test_a_new_connection_without_channels_changes_the_state_of_its_user(lab: Lab, connect: Connect) -> None:
    """The channels of the user's other connections are sent it."""
    lab.connect("ann", "a", conn_id="2", notify_state=True)
    lab.recorder.members[ANN.conn_id] = (ANN, set())
    connect(UserUpdate({"mood": 1}, {}, ["mood"]), {})
    assert [each.state for each in lab.received() if isinstance(each, UserStateChanged)] == [{"mood": 1}]


def test_channels_are_read_with_their_position(lab: Lab) -> None:
    """That of the last event, without a further call; unknown ones are left out."""
    lab.connect("ann", "a", *MANY)
    lab.publish(message("m1", channel="a"), message("m2", channel="c7"))
    for names in ([], ["a", "unknown"], ["c7", *MANY]):
        channels, position = lab.run(lab.engine.channels_at(names))
        known = [name for name in names if name != "unknown"]
        assert [channel.name for channel in channels] == known
        assert position.epochs == lab.engine.position.epochs
        assert all(lab.number(position.offsets, name) == lab.head(name) for name in known)
        assert lab.engine.channels_at_once(names) in (None, (channels, position))


TOO_MUCH: dict[str, StateValue] = {f"k{number}": number for number in range(MAX_STATE_KEYS + 1)}


@pytest.mark.parametrize("update", [UserUpdate(TOO_MUCH, {}), UserUpdate({}, TOO_MUCH)])
def test_a_connection_that_is_refused_joins_nothing(lab: Lab, connect: Connect, update: UserUpdate) -> None:
    """Its channels stay unknown."""
    with pytest.raises(Invalid):
        connect(update, {"a": {}})
    assert (lab.channels(), lab.users()) == ([], [])


def test_a_state_for_new_users_does_not_count_for_a_known_one(lab: Lab, connect: Connect) -> None:
    """However large it is."""
    lab.connect("ann", conn_id="2")
    connect(UserUpdate({}, TOO_MUCH), {"a": {}})
    assert lab.user("ann").state == {}


def test_a_new_connection_joins_very_many_channels(lab: Lab, connect: Connect) -> None:
    """Each of them once, also while the state of its user is announced in very many others; in several turns of the loop."""
    lab.connect("ann", *MANY, conn_id="2", notify_state=True)
    lab.recorder.members[ANN.conn_id] = (ANN, {*MANY, "a"})
    update = UserUpdate({"large": "x" * 10_000}, {}, ["large"])
    registered = connect(update, {name: {"notify_presence": True} for name in ("a", *MANY)})
    assert registered is not None
    assert lab.engine.connect_at_once(Member("3", "zoe", V07), EMPTY, {name: {} for name in MANY}) is None
    assert lab.engine.connect_at_once(Member("3", "ann", V07), update, {}) is None
    assert registered.joined.keys() == {"a", *MANY}
    assert {each.name: each.connections for each in lab.channels()} == {"a": 1, **dict.fromkeys(MANY, 2)}
    events = [each for each in lab.received() if isinstance(each, UserStateChanged | Presence)]
    # The new channel comes after the change, which its members have not seen.
    assert sorted(str(each.channel) for each in events) == sorted(["a", *MANY])
    assert [each.channel for each in events if isinstance(each, Presence)] == ["a"]
