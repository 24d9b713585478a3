"""What every `Directory` must do with channels in which nobody was who may come back (`Channel.is_brief`)."""

from collections.abc import Callable

import pytest
from tests.engines.conformance.lab import ALWAYS, Lab, message

from channelstream.apps.keys import make_member_key
from channelstream.core.client_protocol import ClientProtocol

GUEST, OTHER = (make_member_key("default", "", name) for name in ("guest", "other"))
"""Users to whom nobody comes back."""
SOON_S = 1.0
"""Much less than idle channels are kept."""


def names(lab: Lab) -> set[str]:
    return {channel.name for channel in lab.channels()}


def test_a_channel_of_passers_by_is_forgotten_soon_after_the_last_of_them(lab: Lab) -> None:
    """Whether it leaves or its connection ends; not before."""
    guest = lab.connect(GUEST, "a", "b")
    lab.disconnect(lab.connect(OTHER, "a"), "a")
    lab.collect(after_s=SOON_S)
    assert names(lab) == {"a", "b"}
    lab.leave(guest, "b")
    lab.collect(after_s=SOON_S)
    assert names(lab) == {"a"}
    lab.disconnect(guest, "a")
    lab.collect(after_s=SOON_S)
    assert names(lab) == set()


def test_it_may_have_members_again_before_it_is_forgotten(lab: Lab) -> None:
    """It is then forgotten after the last of these."""
    lab.disconnect(lab.connect(GUEST, "a"), "a")
    other = lab.connect(OTHER, "a")
    lab.collect(after_s=SOON_S)
    assert lab.channel("a").users == {OTHER: 1}
    lab.disconnect(other, "a")
    lab.collect(after_s=SOON_S)
    assert names(lab) == set()


def member_who_may_come_back(lab: Lab) -> None:
    ann = lab.connect("ann")
    lab.join(ann, "a")
    lab.leave(ann, "a")


KEPT: dict[str, Callable[[Lab], object]] = {
    "member": member_who_may_come_back,
    "event": lambda lab: lab.publish(message("m1")),
    "event for some": lambda lab: lab.publish(message("m1", only=frozenset({"ann"}))),
    "settings": lambda lab: lab.configure("a", store_history=True),
    "same settings": lambda lab: lab.configure("a", store_history=False),
}
"""After what a channel is kept as others are."""


@pytest.mark.parametrize("happens", KEPT.values(), ids=KEPT)
@pytest.mark.parametrize("first", [True, False], ids=["while in use", "before it is forgotten"])
def test_what_somebody_may_miss_is_kept(lab: Lab, happens: Callable[[Lab], object], first: bool) -> None:
    """It is empty and idle all the same, and goes in its time, counted from its last use."""
    guest = lab.connect(GUEST, "a")
    if first:
        happens(lab)
        lab.disconnect(guest, "a")
    else:
        lab.disconnect(guest, "a")
        happens(lab)
    lab.collect(after_s=1999.5)
    assert names(lab) == {"a"}
    lab.collect(after_s=1.0)
    assert names(lab) == set()


def test_a_channel_that_others_made_is_kept(lab: Lab) -> None:
    """By whom it has its settings, or was in it before: a passer-by changes nothing."""
    ann = lab.connect("ann", "a")
    lab.join(lab.connect(GUEST, "b", notify_state=True), "a")
    lab.disconnect(ann, "a")
    lab.disconnect(lab.recorder.members[f"of-{GUEST}"][0], "a", "b")
    lab.collect(after_s=SOON_S)
    assert names(lab) == {"a", "b"}


def test_a_channel_whose_members_were_announced_is_kept(lab: Lab) -> None:
    """Presence is an event, which is missed by who comes back."""
    lab.disconnect(lab.connect(GUEST, "a", protocol=ClientProtocol("v07", ALWAYS)), "a")
    lab.collect(after_s=SOON_S)
    assert names(lab) == {"a"}


def test_nothing_of_a_forgotten_channel_is_proven(lab: Lab) -> None:
    """An event that it would have had while it was forgotten is lost, never silently skipped."""
    lab.connect("ann", "a other")
    before = lab.head()
    lab.disconnect(lab.connect(GUEST, "a"), "a")
    lab.collect(after_s=SOON_S)
    lab.publish(message("m1"))
    lab.connect(OTHER, "a")
    assert lab.replay("ann", a=before).lost == {"a"}
    assert lab.replay("ann", a=lab.head()).lost == set()
