"""What every `Directory` must announce of members that join and leave."""

import pytest
from tests.engines.conformance.lab import (
    ALWAYS,
    IF_ANNOUNCED,
    Lab,
)

from channelstream.core.events import (
    Presence,
)
from channelstream.wire.channelstream import SEED

# -- presence


def test_a_user_joins_and_leaves_once(lab: Lab) -> None:
    """With its first and its last connection in the channel, where notify_presence is on."""
    lab.connect("bob", "a", notify_presence=True)
    one = lab.connect("ann", "a", conn_id="1")
    two = lab.connect("ann", "a", conn_id="2")
    lab.disconnect(one, "a")
    lab.leave(two, "a")
    announced = [(each.user, each.joined) for each in lab.received() if isinstance(each, Presence)]
    assert announced == [("bob", True), ("ann", True), ("ann", False)]
    assert lab.channel("a").users == {"bob": 1}


def test_presence_is_silent_unless_wanted(lab: Lab) -> None:
    """A channel without notify_presence and without connections that always receive presence announces nothing."""
    lab.disconnect(lab.connect("ann", "a"), "a")
    assert lab.received() == []


def test_presence_is_for_always_connections_where_it_is_not_notified(lab: Lab) -> None:
    """They always receive it, the others do not."""
    lab.connect("old", "a", protocol=SEED)
    lab.connect("ann", "a")
    event = lab.received()[-1]
    assert isinstance(event, Presence)
    assert (event.user, event.announced) == ("ann", False)
    assert event.is_for("old", ALWAYS)
    assert not event.is_for("old", IF_ANNOUNCED)


@pytest.mark.parametrize("ends", [False, True])
def test_a_channel_is_silent_again_without_always_connections(lab: Lab, ends: bool) -> None:
    """Whether the last one that always receives presence leaves the channel, or ends."""
    members = [lab.connect("old", "a", protocol=SEED, conn_id=conn_id) for conn_id in ("1", "2")]
    lab.connect("bob", "a")
    assert lab.channel("a").always_connections == 2
    for member in members:
        if ends:
            lab.disconnect(member, "a")
        else:
            lab.leave(member, "a")
    assert lab.channel("a").always_connections == 0
    before = len(lab.received())
    lab.connect("ann", "a")
    assert len(lab.received()) == before


def test_presence_carries_user_lists_where_asked_for(lab: Lab) -> None:
    """All members of the channel at that moment, with public state."""
    lab.connect("bob", "a", notify_presence=True, broadcast_presence_with_user_lists=True)
    lab.connect("ann", "a")
    event = lab.received()[-1]
    assert isinstance(event, Presence)
    assert dict(event.users) == {"bob": {}, "ann": {}}


def test_presence_is_in_the_log_like_any_event(lab: Lab) -> None:
    """A client that resumes receives the joins and leaves."""
    lab.connect("bob", "a", notify_presence=True)
    start = lab.head()
    lab.disconnect(lab.connect("ann", "a"), "a")
    replay = lab.replay("bob", a=start)
    assert [entry.event for entry in replay.entries] == lab.received()[-2:]
