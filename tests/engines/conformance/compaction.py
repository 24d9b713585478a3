"""What every `EventLog` must do with edits and deletions: a replay has the current form of an event, or none."""

import random
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest
from tests.engines.conformance.lab import (
    ALWAYS,
    IF_ANNOUNCED,
    Lab,
    delete,
    edit,
    message,
    outcomes,
    private,
    texts,
    uuids,
)

from channelstream.core.accepted import Accepted
from channelstream.core.compaction import MAX_EXCLUDED
from channelstream.core.events import (
    Event,
    Message,
    MessageDeleted,
    MessageEdited,
)
from channelstream.core.registry_limits import RegistryLimits

# -- edits and deletions


def test_a_deleted_message_is_never_replayed(lab: Lab) -> None:
    """Only its deletion is, from every start; the entries around it are replayed, and nothing is lost."""
    lab.connect("ann", "a")
    start = lab.head()
    lab.publish(message("m0"), message("m1"), message("m2"))
    seen = lab.numbers()
    lab.publish(edit(), delete())
    assert uuids(lab.replay("ann", a=start)) == ["m0", "m2", "m1"]
    assert [entry.offset for entry in lab.replay("ann", a=start).entries] == [seen[0], seen[2], lab.head()]
    for begin, rest in (
        (seen[0], ["m2", "m1"]),
        (seen[1], ["m2", "m1"]),
        (seen[2], ["m1"]),
        (lab.head(), []),
    ):
        replay = lab.replay("ann", a=begin)
        assert (uuids(replay), replay.lost, lab.read_whole(replay)) == (rest, frozenset(), True)
    assert texts(lab.replay("ann", a=seen[2])) == ["m1"]


def test_an_edited_message_is_replayed_in_its_current_form(lab: Lab) -> None:
    """At its old offset; a client with the older text is sent one edit with all the changes."""
    lab.connect("ann", "a")
    start = lab.head()
    lab.publish(message("m1"), message("m2"))
    seen = lab.numbers()
    lab.publish(edit(user="eve"), edit(payload=b'"newer"'))
    replay = lab.replay("ann", a=start)
    assert texts(replay) == [b'"newer"', b'"hi"', b'"newer"']
    first, last = replay.entries[0].event, replay.entries[2].event
    assert first == Message(uuid="m1", channel="a", user="eve", payload=b'"newer"', timestamp="t", edited="e")
    assert last == MessageEdited(uuid="m1", channel="a", user="eve", payload=b'"newer"', edited="e")
    assert [entry.offset for entry in replay.entries] == [*seen, lab.head()]
    assert texts(lab.replay("ann", a=seen[0])) == [b'"hi"', b'"newer"']
    assert lab.received()[2:] == [edit(user="eve"), edit(payload=b'"newer"')]


def test_private_messages_are_edited_and_deleted_as_well(lab: Lab) -> None:
    """In the log of each of their users."""
    lab.connect("ann")
    lab.connect("bob")
    users = frozenset({"ann", "bob"})
    lab.publish(private("p1", "ann", "bob"), private("p2", "ann", "bob"))
    lab.publish(edit("p1", channel=None, only=users), delete("p2", channel=None, only=users))
    for user in users:
        replay = lab.replay(user, private=0)
        assert texts(replay) == [b'"new"', b'"new"', "p2"]
        assert replay.lost == frozenset()


def test_a_change_for_some_leaves_the_others_what_they_have(lab: Lab) -> None:
    """In private messages and in channels: recipients of the change are sent the newest text, or nothing."""
    lab.connect("ann", "a")
    lab.connect("bob", "a")
    bob = frozenset({"bob"})
    lab.publish(*(private(f"p{number}", "ann", "bob") for number in range(2)), message("m0"), message("m1"))
    lab.publish(edit("p0", channel=None, only=bob), delete("p1", channel=None, only=bob))
    lab.publish(edit("m0", only=bob), delete("m1", only=bob))
    assert texts(lab.replay("ann", private=0)) == [b'"hi"', b'"hi"']
    assert set(texts(lab.replay("bob", private=0))) == {b'"new"', "p1"}
    for user, received in (("ann", [b'"hi"', b'"hi"']), ("bob", [b'"new"', "m1"])):
        entries = [entry for entry in lab.replay(user, a=0).entries if entry.event.is_for(user, IF_ANNOUNCED)]
        assert [getattr(entry.event, "payload", entry.event.uuid) for entry in entries] == received
    both = frozenset({"ann", "bob"})
    lab.publish(delete("p0", channel=None, only=both), delete("m0"), delete("m1"))
    assert set(texts(lab.replay("bob", private=0))) == {"p0", "p1"}
    assert set(texts(lab.replay("ann", private=0))) == {b'"hi"', "p0"}
    assert set(texts(lab.replay("ann", a=0))) == {"m0", "m1"}


ANN, BOB = frozenset({"ann"}), frozenset({"bob"})


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (edit(only=ANN), edit(payload=None, user="eve")),
        (edit(only=ANN | {"bob"}), edit(payload=None, user="eve", only=ANN | {"cid"})),
        (edit(exclude=ANN), edit(payload=None, user="eve")),
    ],
)
def test_what_an_edit_for_some_has_changed_is_lost_where_a_newer_one_cannot_say_it(
    lab: Lab, older: Event, newer: Event
) -> None:
    """As that is for others, too: a client that resumes from before the older one has the loss reported.

    Older messages are still known.
    """
    lab.connect("ann", "a")
    lab.publish(message("m0"), message("m1"))
    start = lab.head()
    lab.publish(older)
    between = lab.head()
    lab.publish(newer, message("m2"))
    assert lab.replay("ann", a=start).lost == {"a"}
    replay = lab.replay("ann", a=between)
    assert (uuids(replay), replay.lost) == (["m1", "m2"], frozenset())
    assert all(each.duplicate for each in lab.publish(message("m0"), message("m1")))


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (edit(only=ANN), edit(user="eve")),
        (edit(only=ANN), edit(payload=None, user="eve", only=BOB)),
        (edit(only=ANN | {"bob"}), edit(payload=None, user="eve", only=BOB)),
        (edit(exclude=ANN), edit(payload=None, user="eve", exclude=ANN)),
        (edit(), edit(payload=None, user="eve", only=BOB)),
    ],
)
def test_an_edit_for_some_loses_nothing_else(lab: Lab, older: Event, newer: Event) -> None:
    """Where the newer one is for other users, names all of it, or is for no further users."""
    lab.connect("ann", "a")
    start = lab.head()
    lab.publish(message("m1"), older, newer)
    assert lab.replay("ann", a=start).lost == frozenset()


def test_the_newest_of_the_edits_that_an_edit_takes_over_counts(lab: Lab) -> None:
    """Though an older one, which was for more users, came before it."""
    lab.connect("ann", "a")
    lab.publish(message("m1"), edit(), edit(payload=b'"newer"', only=ANN))
    start = lab.head()
    lab.publish(edit(payload=None, user="eve", only=ANN))
    assert texts(lab.replay("ann", a=start)) == [b'"newer"']


def test_what_a_private_edit_has_changed_is_lost_or_sent_as_well(lab: Lab) -> None:
    """Where a newer one is for other users, too: each of them has a log, which may have one text for all of them."""
    for user in ("ann", "bob", "cid"):
        lab.connect(user)
    lab.publish(private("p1", "ann", "bob", "cid"), private("p2", "ann", "bob", "cid"))
    start = {user: lab.head(user) for user in ("ann", "bob", "cid")}
    lab.publish(edit("p1", channel=None, only=ANN | BOB))
    lab.publish(edit("p1", channel=None, payload=None, user="eve", only=BOB | {"cid"}))
    for user, payload in (("ann", b'"new"'), ("cid", None)):
        replay = lab.replay(user, private=start[user])
        assert (texts(replay), replay.lost) == ([payload], frozenset())
    replay = lab.replay("bob", private=start["bob"])
    assert replay.lost or texts(replay) == [b'"new"']


def test_a_message_is_found_for_those_who_have_its_edit_alone(lab: Lab) -> None:
    """After an edit for some of its users; in private messages and in channels, and after an edit of the edit."""
    lab.connect("ann", "a")
    lab.connect("bob", "a")
    bob = frozenset({"bob"})
    lab.publish(private("p1", "ann", "bob"), message("m1"))
    for place in ({"uuid": "p1", "channel": None, "only": bob}, {"uuid": "m1", "only": bob}):
        changes = lab.publish(edit(**place), edit(**place), delete(**place), delete(**place))
        assert [each.found for each in changes] == [True, True, True, False]


def test_a_message_is_found_by_its_edit_when_it_has_left_the_log(lab: Lab) -> None:
    """But not by an edit that came before any message."""
    lab.connect("ann", "a", log_events=2)
    lab.publish(message("m1"), message("m2"), edit("m1"))
    assert [each.found for each in lab.publish(edit("m1"), delete("m1"))] == [True, True]
    early = lab.publish(edit("m3"), edit("m3"), delete("m3"))
    assert [each.found for each in early] == [False, False, False]


def test_a_private_message_that_excludes_many_users_stays_for_the_others(lab: Lab) -> None:
    """After a change for some of them: its list of excluded users does not grow."""
    lab.connect("ann")
    lab.connect("bob")
    many = frozenset(f"u{number}" for number in range(MAX_EXCLUDED + 1))
    lab.publish(msgspec.structs.replace(private("p1", "ann", "bob"), exclude=many))
    lab.publish(delete("p1", channel=None, only=ANN))
    replay = lab.replay("bob", private=0)
    assert (uuids(replay), replay.lost) == (["p1"], frozenset())


def test_a_user_excluded_from_a_change_is_not_sent_the_superseded_message(lab: Lab) -> None:
    """It has made the change itself, and another page of it must not get the old text."""
    lab.connect("ann", "a")
    lab.connect("bob")
    ann, both = frozenset({"ann"}), frozenset({"ann", "bob"})
    lab.publish(message("m1"), message("m2"), private("p1", "ann", "bob"))
    lab.publish(edit(exclude=ann), delete("m2", exclude=ann))
    lab.publish(delete("p1", channel=None, only=both, exclude=ann))
    received = [
        entry
        for entry in lab.replay("ann", a=0, private=0).entries
        if entry.event.is_for("ann", IF_ANNOUNCED)
    ]
    assert [getattr(entry.event, "payload", None) for entry in received] == [b'"new"']
    assert texts(lab.replay("bob", private=0)) == ["p1"]


def test_a_deleted_message_is_no_longer_found(lab: Lab) -> None:
    """A second deletion is delivered; an edit is not, nor is the message when it is published again."""
    lab.connect("ann", "a", store_history=True)
    lab.publish(message("m1"), delete())
    before = len(lab.received())
    accepted = lab.publish(delete(), edit(), message("m1"))
    assert outcomes(accepted) == [(False, False), (True, False), (True, False)]
    assert accepted[2].event == message("m1")
    assert lab.received()[before:] == [delete()]
    assert uuids(lab.replay("ann", a=0)) == ["m1"]
    assert lab.channel("a").history.entries == []


def test_private_messages_that_were_deleted_are_not_found_either(lab: Lab) -> None:
    """By the logs of their users."""
    lab.connect("ann")
    ann = frozenset({"ann"})
    lab.publish(private("p1", "ann"), delete("p1", channel=None, only=ann))
    accepted = lab.publish(
        delete("p1", channel=None, only=ann), edit("p1", channel=None, only=ann), private("p1", "ann")
    )
    assert outcomes(accepted) == [(False, False), (True, False), (True, False)]
    assert texts(lab.replay("ann", private=0)) == ["p1"]


def test_a_message_repeated_after_an_edit_is_answered_in_its_current_form(lab: Lab) -> None:
    """Whether the log has it, only the history, or only the edit."""
    lab.connect("ann", "a", store_history=True, log_events=2)
    present = Message(uuid="m1", channel="a", user="ann", payload=b'"new"', timestamp="t", edited="e")
    lab.publish(message("m1"), edit())
    assert lab.publish(message("m1")) == [Accepted(present, duplicate=True, found=True)]
    lab.publish(message("m2"))
    lab.configure("a", store_history=False)
    assert lab.publish(message("m1")) == [Accepted(present, duplicate=True, found=True)]
    lab.configure("a", store_history=True)
    lab.publish(message("m3"), edit("m3"), message("m4"), message("m5"))
    edited = Message(uuid="m3", channel="a", user="ann", payload=b'"new"', timestamp="t", edited="e")
    assert lab.publish(message("m3")) == [Accepted(edited, duplicate=True, found=True)]


def forms(events: Iterable[Event]) -> list[tuple[type[Event], bytes, set[str] | None]]:
    """Return the type, the text and the users of each message or edit."""
    return [
        (type(event), event.payload or b"", None if event.only is None else set(event.only))
        for event in events
        if isinstance(event, Message | MessageEdited)
    ]


@pytest.mark.usefixtures("payloads_within_the_log")
def test_an_edit_that_overtakes_its_message_is_applied_to_it(lab: Lab) -> None:
    """In a channel: the message is no duplicate, and is sent and kept in its edited form, also in the history."""
    lab.connect("ann", "a", store_history=True)
    start = lab.head()
    accepted = lab.publish(edit(), edit(user="eve", payload=None), message("m1"))
    assert outcomes(accepted) == [(False, False), (False, False), (False, False)]
    assert accepted[2].event == message("m1")
    present = Message(uuid="m1", channel="a", user="eve", payload=b'"new"', timestamp="t", edited="e")
    assert lab.received()[-1] == present
    assert forms(entry.event for entry in lab.replay("ann", a=start).entries) == [
        (MessageEdited, b'"new"', None),
        (Message, b'"new"', None),
    ]
    assert [entry.event for entry in lab.channel("a").history.entries] == [present]
    assert lab.publish(message("m1")) == [Accepted(present, duplicate=True, found=True)]
    assert outcomes(lab.publish(edit(payload=b'"last"'), delete())) == [(False, True), (False, True)]
    assert uuids(lab.replay("ann", a=start)) == ["m1"]


def test_a_message_that_has_left_the_log_before_an_edit_of_its_edit_is_a_duplicate(lab: Lab) -> None:
    """The second edit is not taken for one that came before the message."""
    lab.connect("ann", "a", log_events=3)
    lab.publish(message("m1"), message("m2"), message("m3"), edit("m1"), edit("m1", b'"last"'))
    assert outcomes(lab.publish(message("m1")))[0][0]


@pytest.mark.usefixtures("payloads_within_the_log")
def test_an_edit_for_some_overtakes_a_message_for_more(lab: Lab) -> None:
    """Users who had the message get the edit; those who get it later have it in its edited form; others as it is."""
    for user in ("ann", "bob", "cid"):
        lab.connect(user, "a")
    some = frozenset({"ann", "bob"})
    everybody = frozenset({"ann", "bob", "cid"})
    lab.publish(private("p1", "ann"), edit("p1", channel=None, only=some), edit("m1", only=some))
    accepted = lab.publish(private("p1", *everybody), message("m1"))
    assert not any(each.duplicate for each in accepted)
    for user, received in (
        ("ann", {(Message, b'"new"'), (MessageEdited, b'"new"')}),
        ("bob", {(Message, b'"new"'), (MessageEdited, b'"new"')}),
        ("cid", {(Message, b'"hi"')}),
    ):
        mine = forms(entry.event for entry in lab.replay(user, private=0).entries)
        assert {each[:2] for each in mine if user in (each[2] or ())} == received
        entries = [each.event for each in lab.replay(user, a=0).entries if each.event.is_for(user, ALWAYS)]
        assert {each[:2] for each in forms(entries)} == received
    assert all(each.duplicate for each in lab.publish(private("p1", *everybody), message("m1")))


@pytest.mark.usefixtures("payloads_within_the_log")
def test_an_edit_overtakes_a_message_for_some_of_its_users_only(lab: Lab) -> None:
    """In a channel where others of them have had the message: it is no duplicate for those who have not."""
    lab.connect("ann", "a")
    lab.publish(message("m1", only=ANN), edit("m1", only=ANN | {"bob", "cid"}))
    before = len(lab.received())
    [some, repeated, everybody] = lab.publish(
        message("m1", only=ANN | BOB), message("m1", only=ANN | BOB), message("m1")
    )
    assert [each.duplicate for each in (some, repeated, everybody)] == [False, True, False]
    received = lab.received()[before:]
    for user, texts_sent in (("ann", []), ("bob", [b'"new"']), ("cid", [b'"new"']), ("dan", [b'"hi"'])):
        mine = forms(event for event in received if event.is_for(user, ALWAYS))
        assert [text for _, text, _ in mine] == texts_sent


@pytest.mark.parametrize("change", [edit, delete])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_private_message_is_not_sent_again_to_a_user_whom_a_change_excludes(
    lab: Lab, change: Callable[..., Event], at_once: bool
) -> None:
    """Who has had it: a change for some of its users is not sent to that user, nor is the older text."""
    for user in ("ann", "bob", "cid"):
        lab.connect(user)
    sent, both = private("p1", "ann", "bob", "cid"), ANN | BOB
    lab.publish(sent)
    before, events = len(lab.received()), [change("p1", channel=None, only=both, exclude=ANN), sent]
    accepted = lab.publish(*events) if at_once else [lab.publish(event)[0] for event in events]
    assert [each.duplicate for each in accepted] == [False, True]
    assert {name for event in lab.received()[before:] for name in event.addressees} == BOB
    assert lab.publish(edit("p1", channel=None, only=both))[0].found == (change is edit)


def test_a_user_whom_a_change_excludes_has_had_the_message(lab: Lab) -> None:
    """Whatever becomes of the change in the logs of the other users."""
    for user in ("ann", "bob", "cid"):
        lab.connect(user)
    both, some = private("p1", "ann", "bob"), private("p2", "ann")
    lab.publish(both, edit("p1", channel=None, only=ANN | BOB, exclude=ANN))
    lab.publish(edit("p1", b'"newer"', channel=None, only=BOB))
    lab.publish(some, delete("p2", channel=None, only=ANN, exclude=ANN))
    before = len(lab.received())
    assert [each.duplicate for each in lab.publish(both, some, private("p2", "ann", "cid"))] == [
        True,
        True,
        False,
    ]
    assert [event.addressees for event in lab.received()[before:]] == [frozenset({"cid"})]


@pytest.mark.usefixtures("payloads_within_the_log")
def test_a_message_comes_once_after_early_edits_that_exclude_a_user(lab: Lab) -> None:
    """Also to that user, in a form that it may see."""
    for user in ("ann", "bob", "cid"):
        lab.connect(user, "a")
    cid = frozenset({"cid"})
    lab.publish(edit("p1", channel=None, only=ANN | cid, exclude=ANN))
    lab.publish(edit("p1", b'"newer"', channel=None, only=ANN | BOB, exclude=cid))
    lab.publish(edit("p2", channel=None, only=BOB))
    lab.publish(edit("p2", None, channel=None, only=BOB | cid, exclude=cid, user="eve"))
    lab.publish(edit(only=BOB, exclude=BOB), message("m1", only=cid))
    before = len(lab.received())
    first, second = (private(uuid, "ann", "bob", "cid") for uuid in ("p1", "p2"))
    lab.publish(
        msgspec.structs.replace(first, exclude=BOB | cid),
        msgspec.structs.replace(second, exclude=ANN | BOB),
        message("m1"),
    )
    sent = [
        (event.uuid, user, event.payload)
        for event in lab.received()[before:]
        if isinstance(event, Message)
        for user in ("ann", "bob", "cid")
        if event.is_for(user, ALWAYS)
    ]
    assert sorted(sent) == [
        ("m1", "ann", b'"hi"'),
        ("m1", "bob", b'"new"'),
        ("p1", "ann", b'"newer"'),
        ("p2", "cid", b'"hi"'),
    ]


@pytest.mark.parametrize("channel", ["a", None])
def test_an_edit_counts_for_a_user_whom_it_excludes_alone(lab: Lab, channel: str | None) -> None:
    """As it was deleted for the others: that user has made the edit, and another page of it must not get the old text."""
    for user in ("ann", "bob"):
        lab.connect(user, "a")
    both, start = ANN | BOB, {"private" if channel is None else channel: 0}
    lab.publish(message("m1", channel=channel, only=both), delete(channel=channel, only=BOB))
    before = len(lab.received())
    accepted = lab.publish(edit(channel=channel, only=both, exclude=ANN))
    assert outcomes(accepted) == [(False, True)]
    assert not any(event.is_for(user, ALWAYS) for event in lab.received()[before:] for user in both)
    shown = [each for each in lab.replay("ann", **start).entries if each.event.is_for("ann", ALWAYS)]
    assert b'"hi"' not in [getattr(entry.event, "payload", None) for entry in shown]


@pytest.mark.usefixtures("payloads_within_the_log")
def test_an_edit_stays_early_for_a_user_whom_the_message_excludes(lab: Lab) -> None:
    """Who is sent the message later, in its edited form."""
    for user in ("ann", "bob"):
        lab.connect(user)
    sent = private("p1", "ann", "bob")
    lab.publish(edit("p1", channel=None, only=sent.only))
    accepted = lab.publish(msgspec.structs.replace(sent, exclude=frozenset({"ann"})), sent, sent)
    assert [each.duplicate for each in accepted] == [False, False, True]
    for user in ("ann", "bob"):
        assert texts(lab.replay(user, private=0)) == [b'"new"'] * 2


@pytest.mark.usefixtures("payloads_within_the_log")
@pytest.mark.parametrize("at_once", [True, False])
def test_a_message_has_what_early_edits_for_more_users_have_changed(lab: Lab, at_once: bool) -> None:
    """Whether or not they and the message are accepted together."""
    for user in ("ann", "bob"):
        lab.connect(user)
    lab.publish(edit("p1", channel=None, only=ANN | BOB))
    before = len(lab.received())
    events = [edit("p1", None, channel=None, only=ANN | BOB, user="eve"), private("p1", "ann")]
    for part in [events] if at_once else [[event] for event in events]:
        lab.publish(*part)
    sent = [event for event in lab.received()[before:] if isinstance(event, Message)]
    assert [(event.user, event.payload) for event in sent] == [("eve", b'"new"')]


def test_a_deletion_that_overtakes_its_message_is_final(lab: Lab) -> None:
    """Also after an edit that has overtaken it as well."""
    lab.connect("ann", "a")
    accepted = lab.publish(edit(), delete(), message("m1"))
    assert outcomes(accepted) == [(False, False), (False, False), (True, False)]
    assert uuids(lab.replay("ann", a=0)) == ["m1"]


@pytest.mark.parametrize("change", [edit, delete])
def test_a_change_in_an_unknown_channel_leaves_a_later_message_as_it_is(
    lab: Lab, change: Callable[..., Event]
) -> None:
    """No log keeps the change; the same for a private message of an unknown user."""
    some = frozenset({"ann"})
    lab.publish(change(), change("p1", channel=None, only=some))
    lab.connect("ann", "a")
    before = len(lab.received())
    messages = [message("m1"), private("p1", "ann")]
    assert outcomes(lab.publish(*messages)) == [(False, False), (False, False)]
    assert lab.in_order(lab.received()[before:]) == lab.in_order(messages)
    assert outcomes(lab.publish(*messages)) == [(True, True), (True, True)]


def test_the_same_message_for_further_users_reaches_them(lab: Lab) -> None:
    """And no user twice; private messages, and those for some users of a channel."""
    for user in ("ann", "bob"):
        lab.connect(user, "a")
    lab.publish(private("p1", "ann"), message("m1", only=frozenset({"ann"})))
    before = len(lab.received())
    both = frozenset({"ann", "bob"})
    again = [private("p1", "ann", "bob"), message("m1", only=both)]
    assert [each.duplicate for each in lab.publish(*again)] == [False, False]
    new = lab.received()[before:]
    assert [event.only for event in new] == [{"bob"}, {"bob"}]
    assert [each.duplicate for each in lab.publish(*again)] == [True, True]
    assert uuids(lab.replay("bob", private=0)) == ["p1"]
    assert uuids(lab.replay("ann", private=0)) == ["p1"]
    lab.publish(message("m1"))
    [last] = lab.received()[-1:]
    assert last.exclude == both
    lab.publish(delete(), delete("p1", channel=None, only=both))
    assert uuids(lab.replay("ann", a=0)) == ["m1"]
    assert texts(lab.replay("bob", private=0)) == ["p1"]


def test_a_private_message_that_is_sent_again_reaches_those_who_lack_it(
    open_lab: Callable[..., Lab],
) -> None:
    """Those who were unknown, or excluded, and those whose log has lost it; an excluded user lacks nothing."""
    lab = open_lab(limits=RegistryLimits(user_log_events=2))
    for user in ("ann", "bob", "cy"):
        lab.connect(user)
    sent = private("p1", "ann", "bob", "cy", "dan")
    lab.publish(msgspec.structs.replace(sent, exclude=frozenset({"bob"})))
    lab.publish(private("p2", "cy"), private("p3", "cy"))

    def again(*excluded: str) -> tuple[bool, set[str]]:
        before = len(lab.received())
        [accepted] = lab.publish(msgspec.structs.replace(sent, exclude=frozenset(excluded) or None))
        return accepted.duplicate, {name for event in lab.received()[before:] for name in event.addressees}

    lab.connect("dan")
    assert again("bob", "cy") == (False, {"dan"})
    assert again() == (False, {"bob", "cy"})
    assert again() == (True, set())
    assert [uuids(lab.replay(user, private=0)) for user in ("ann", "bob")] == [["p1"]] * 2


def test_users_who_are_unknown_make_no_repeat_a_new_message(lab: Lab) -> None:
    """Wherever their logs would be; and no edit of a deleted message is accepted for them."""
    lab.connect("ann")
    names = frozenset({"ann", *(f"nobody-{number}" for number in range(50))})
    sent = private("p1", *names)
    assert outcomes(lab.publish(sent, sent)) == [(False, False), (True, True)]
    lab.publish(edit("p1", channel=None, only=names))
    [again] = lab.publish(sent)
    assert again == Accepted(
        msgspec.structs.replace(sent, payload=b'"new"', edited="e"), duplicate=True, found=True
    )
    changes = lab.publish(
        delete("p1", channel=None, only=names), sent, edit("p1", channel=None, only=names), sent
    )
    assert outcomes(changes) == [(False, True), (True, False), (True, False), (True, False)]
    lab.connect("nobody-7")
    start = lab.head("nobody-7")
    assert [each.duplicate for each in lab.publish(sent)] == [False]
    assert uuids(lab.replay("nobody-7", private=start)) == ["p1"]


def test_a_message_to_users_who_are_all_unknown_is_no_duplicate(lab: Lab) -> None:
    """Nor is it for a user whom it excludes, whose log has not got it."""
    lab.connect("ann")
    names = frozenset(f"nobody-{number}" for number in range(30))
    excluded = msgspec.structs.replace(private("p2", "ann"), exclude=frozenset({"ann"}))
    for sent in (private("p1", *names), excluded):
        assert [outcomes(lab.publish(sent)) for _ in range(2)] == [[(False, False)]] * 2


def test_compacted_entries_make_room_in_the_log(open_lab: Callable[..., Lab]) -> None:
    """A log of three entries has the current form of a message, not the earlier ones."""
    lab = open_lab(limits=RegistryLimits(log_events=3, user_log_events=3))
    lab.connect("ann", "a")
    start = lab.head()
    lab.publish(message("m1"), message("m2"))
    for _ in range(5):
        lab.publish(edit())
    lab.publish(delete())
    assert uuids(lab.replay("ann", a=start)) == ["m2", "m1"]
    assert lab.replay("ann", a=start).lost == frozenset()
    lab.publish(message("m3"), message("m4"))
    assert lab.replay("ann", a=start).lost == {"a"}
    assert uuids(lab.replay("ann", a=lab.numbers()[1])) == ["m1", "m3", "m4"]


def test_a_trimmed_message_can_be_deleted_and_published_again(open_lab: Callable[..., Lab]) -> None:
    """A trimmed message is not found, and no older form of it prevents either."""
    lab = open_lab(limits=RegistryLimits(log_events=2))
    lab.connect("ann", "a")
    lab.publish(message("m1"), edit(), message("m2"))
    lab.publish(message("m3"))
    assert outcomes(lab.publish(edit(), delete())) == [(False, False), (False, False)]
    assert uuids(lab.replay("ann", a=lab.head() - 2)) == ["m1"]
    lab.publish(message("m4"), message("m5"))
    assert outcomes(lab.publish(message("m1"))) == [(False, False)]


@pytest.mark.parametrize("limit", [1, 2])
def test_positions_stay_valid_where_entries_are_gone(lab: Lab, limit: int) -> None:
    """A read in chunks gets each current form once, whatever left the log in between."""
    lab.connect("ann", "a")
    read_to = lab.head()
    lab.publish(*(message(f"m{number}") for number in range(6)))
    lab.publish(delete("m1"), delete("m2"), edit("m4"), delete("m5"))
    found: list[str] = []
    while read_to != lab.head():
        replay = lab.replay("ann", limit, a=read_to)
        assert replay.lost == frozenset()
        assert lab.number(replay.read_to) > read_to
        found += uuids(replay)
        read_to = lab.number(replay.read_to)
    assert found == ["m0", "m3", "m4", "m1", "m2", "m4", "m5"]


def test_a_change_of_a_message_only_in_the_history_is_shown(lab: Lab) -> None:
    """The log has forgotten the message."""
    lab.connect("ann", "a", store_history=True, log_events=1)
    lab.publish(message("m1"), message("m2"), message("m3"))
    assert outcomes(lab.publish(edit(), delete("m2"))) == [(False, True), (False, True)]
    shown = [getattr(entry.event, "payload", b"") for entry in lab.channel("a").history.entries]
    assert shown == [b'"new"', b'"hi"']
    assert outcomes(lab.publish(delete("m2"))) == [(False, False)]


def newest(events: Iterable[Event], uuid: str, user: str) -> bytes | None:
    """Return the text of a message that a user may be sent after these events; None: no text."""
    text = None
    for event in events:
        if event.uuid == uuid and event.is_for(user, IF_ANNOUNCED):
            text = None if isinstance(event, MessageDeleted) else getattr(event, "payload", None) or text
    return text


@pytest.mark.parametrize("seed", range(4))
def test_a_replay_never_has_a_superseded_text(lab: Lab, seed: int) -> None:
    """Of any messages, edits and deletions, for all or for some, alone or in lists: the newest text of each, or none."""
    chance = random.Random(seed)
    users = ("ann", "bob", "cid")
    for user in users:
        lab.connect(user, "a", store_history=True, history_size=1000)
    known: list[Message] = []
    events: list[Event] = []
    for number in range(60):
        private_one = chance.random() < 0.4
        some = frozenset(chance.sample(users, chance.randint(1, 3)))
        only = some if private_one or chance.random() < 0.2 else None
        fresh = message(f"m{number}", None if private_one else "a", only=only)
        text = b'"%d"' % number
        if not known or chance.random() < 0.4:
            known.append(msgspec.structs.replace(fresh, payload=text))
            events.append(known[-1])
        else:
            about = chance.choice(known)
            narrow = about.only if about.channel is None or chance.random() < 0.7 else only
            if about.channel is None and chance.random() < 0.3:
                narrow = some
            place: dict[str, Any] = {"channel": about.channel, "only": narrow}
            events.append(
                chance.choice((edit(about.uuid, text, **place), delete(about.uuid, **place), about))
            )
        if chance.random() < 0.4:
            lab.publish(*events)
            events.clear()
    lab.publish(*events)
    accepted = lab.received()
    for user in users:
        replay = lab.replay(user, a=0, private=0)
        assert replay.lost == frozenset()
        sent = [entry.event for entry in replay.entries if entry.event.is_for(user, IF_ANNOUNCED)]
        for event in sent:
            if not isinstance(event, MessageDeleted):
                assert getattr(event, "payload", None) == newest(accepted, event.uuid, user), event
        for each in known:
            if (text := newest(accepted, each.uuid, user)) is not None:
                assert text in [getattr(event, "payload", None) for event in sent if event.uuid == each.uuid]
    for entry in lab.channel("a").history.entries:
        whole = [event for event in accepted if event.only is None]
        assert getattr(entry.event, "payload", b"") == newest(whole, entry.event.uuid, "")


def test_a_message_edited_for_many_users_is_lost_for_the_others(lab: Lab) -> None:
    """A client that resumes from before is sent the loss; one that has had the message misses nothing."""
    lab.connect("ann", "a")
    start = lab.head()
    lab.publish(message("m0"), message("m1"), message("m2"))
    first, second, *_ = lab.numbers()
    lab.publish(edit("m1", only=frozenset(map(str, range(MAX_EXCLUDED)))))
    before = lab.replay("zoe", 3, a=start)
    assert (uuids(before), before.lost) == (["m0", "m1", "m2"], frozenset())
    lab.publish(edit("m1", only=frozenset({"one more"})))
    assert lab.replay("zoe", 3, a=first).lost == {"a"}
    after = lab.replay("zoe", 1, a=second)
    assert (uuids(after), after.lost) == (["m2"], frozenset())
