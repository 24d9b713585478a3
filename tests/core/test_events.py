"""Events: who receives them."""

import pytest
from msgspec.structs import replace

from channelstream.core.client_protocol import PresenceAudience
from channelstream.core.events import (
    TRACEPARENT_BYTES,
    Message,
    MessageDeleted,
    MessageEdited,
    Presence,
    UserLeft,
    UsersLeft,
    UserStateChanged,
)

ALWAYS, IF_ANNOUNCED = PresenceAudience.ALWAYS, PresenceAudience.IF_ANNOUNCED


def message(only: frozenset[str] | None = None, exclude: frozenset[str] | None = None) -> Message:
    return Message(uuid="m", channel="a", only=only, exclude=exclude, user="ann", payload=b"1", timestamp="t")


def presence(announced: bool) -> Presence:
    return Presence(
        uuid="p", channel="a", user="ann", joined=True, timestamp="t", state={}, announced=announced
    )


@pytest.mark.parametrize(
    ("only", "exclude", "receivers"),
    [
        (None, None, {"ann", "bob", "cid"}),
        (frozenset({"bob"}), None, {"bob"}),
        (None, frozenset({"bob"}), {"ann", "cid"}),
        (frozenset({"ann", "bob"}), frozenset({"bob"}), {"ann"}),
        (frozenset(), None, set()),
    ],
)
@pytest.mark.parametrize("presence_audience", PresenceAudience)
def test_a_message_reaches_its_recipients_and_no_excluded_user(
    only: frozenset[str] | None,
    exclude: frozenset[str] | None,
    receivers: set[str],
    presence_audience: PresenceAudience,
) -> None:
    """`only` names who may receive, `exclude` takes away from that, the author counts like anyone."""
    event = message(only, exclude)
    assert {name for name in ("ann", "bob", "cid") if event.is_for(name, presence_audience)} == receivers


def test_only_an_event_without_names_is_public() -> None:
    """No recipient is examined where neither list is given; an empty list is a list."""
    assert message().is_public
    assert not message(only=frozenset()).is_public
    assert not message(exclude=frozenset()).is_public
    assert MessageDeleted(uuid="m", channel="a").is_public


def test_announced_presence_is_for_everyone_but_the_user_itself() -> None:
    """Where the channel has notify_presence both audiences receive the presence of others."""
    event = presence(announced=True)
    assert not event.is_public
    assert event.is_for("bob", ALWAYS)
    assert event.is_for("bob", IF_ANNOUNCED)
    assert not event.is_for("ann", ALWAYS)
    assert not event.is_for("ann", IF_ANNOUNCED)


def test_presence_that_is_not_announced_is_for_always_connections() -> None:
    """Without notify_presence no others receive joins and leaves."""
    event = presence(announced=False)
    assert event.is_for("bob", ALWAYS)
    assert not event.is_for("bob", IF_ANNOUNCED)


@pytest.mark.parametrize("announced", [True, False])
def test_a_batched_leave_is_delivered_to_others(announced: bool) -> None:
    """One of them receives the others; where presence is not announced only `ALWAYS` receives it."""
    gone = tuple(UserLeft(name, name, back) for name, back in (("ann", 1), ("bob", 0)))
    event = UsersLeft(uuid="p", channel="a", departures=gone, timestamp="t", announced=announced)
    assert (event.is_public, event.count, event.about) == (False, 2, ("ann", "bob"))
    for user in ("ann", "cid"):
        assert [event.is_for(user, audience) for audience in (ALWAYS, IF_ANNOUNCED)] == [True, announced]
    alone = event.without("bob")
    assert (alone.about, alone.is_for("ann", ALWAYS), alone.is_for("cid", ALWAYS)) == (("ann",), False, True)
    assert event.after(0).about == ("bob",)
    assert event.size_bytes() > alone.size_bytes() > 0
    listed = UsersLeft(uuid="p", channel="a", departures=gone, timestamp="t", users=(("cid", {"k": 1}),))
    assert listed.size_bytes() > event.size_bytes()


def test_a_change_of_state_is_delivered_to_its_own_user_too() -> None:
    """Every member receives it, whichever user changed."""
    event = UserStateChanged(uuid="s", channel="a", user="ann", timestamp="t", state={}, changed=())
    assert event.is_public
    assert event.is_for("ann", IF_ANNOUNCED)


def test_events_are_frozen() -> None:
    """An event shared by recipients cannot be changed by one."""
    with pytest.raises(AttributeError):
        message().user = "eve"  # type: ignore[misc]


def test_an_event_has_the_weight_of_its_content() -> None:
    """Lists of users and states count for the budget of the logs, not only payloads."""
    quiet = MessageDeleted(uuid="1", channel="a")
    aimed = MessageDeleted(uuid="1", channel="a", only=frozenset("xyz"))
    short = MessageEdited(uuid="1", channel="a", edited="t")
    long = MessageEdited(uuid="1", channel="a", edited="t", payload=b"x" * 1000)
    alone = Presence(uuid="1", channel="a", user="u", joined=True, timestamp="t", state={})
    crowd = Presence(
        uuid="1", channel="a", user="u", joined=True, timestamp="t", state={}, users=(("v", {"k": 1}),) * 50
    )
    state = UserStateChanged(
        uuid="1", channel="a", user="u", timestamp="t", state={"k": 1}, changed=(("k", 1),)
    )
    assert quiet.size_bytes() == alone.size_bytes() == short.size_bytes() == 0
    assert aimed.size_bytes() > 0
    assert long.size_bytes() >= 1000
    assert crowd.size_bytes() >= 50 * 100
    assert replace(crowd, state={"k": 1}).size_bytes() > crowd.size_bytes()
    assert state.size_bytes() > 0
    assert replace(message(), traceparent="00-…").size_bytes() == message().size_bytes() + TRACEPARENT_BYTES
