"""What a `Directory` must do whose connections outlive its server: a module of its own, as not every engine keeps them.

It needs two fixtures: `begun`, a lab, and `crash`, which kills its server.
"""

from collections.abc import Callable
from typing import Any

import pytest
from tests.engines.conformance.brief_channels import GUEST, OTHER, SOON_S, names
from tests.engines.conformance.lab import EMPTY, Lab, message, uuids
from tests.engines.conformance.outbox import fact_form, kept

from channelstream.apps.keys import DEFAULT
from channelstream.core.client_protocol import PresenceAudience
from channelstream.core.events import Event, Presence, UsersLeft
from channelstream.core.position import Position, ReadRange
from channelstream.engines.members import Leaving, Member, RestoredConnection
from channelstream.engines.outbox import passed
from channelstream.engines.time_series import Record
from channelstream.wire.channelstream import SEED, V07

Crash = Callable[[], Lab]
"""Kills the server of the present lab, and returns a lab of the next one on the same storage."""

ANN = Member("of-ann", "ann", V07)


def restored(lab: Lab) -> dict[str, RestoredConnection]:
    return {each.member.conn_id: each for each in lab.run(lab.engine.restored_connections())}


def presences(lab: Lab) -> list[tuple[str, bool]]:
    """Return who joined (True) or left, as it was announced in this run."""
    return [each for event in lab.received() for each in about(event)]


def about(event: Event) -> list[tuple[str, bool]]:
    if isinstance(event, UsersLeft):
        return [(user, False) for user in event.about]
    return [(event.user, event.joined)] if isinstance(event, Presence) else []


def test_records_by_time_outlive_a_crash(begun: Lab, crash: Crash) -> None:
    begun.run(begun.engine.time_series.append("minutes", Record(60.0, b"before"), 3600.0))
    lab = crash()
    lab.run(lab.engine.time_series.append("minutes", Record(120.0, b"after"), 3600.0))
    assert lab.run(lab.engine.time_series.read("minutes", 0.0)) == [(60.0, b"before"), (120.0, b"after")]


def test_the_outbox_outlives_a_crash(begun: Lab, crash: Crash) -> None:
    """Facts and cursors; nothing is a fact that is restored, and what ends later is reported behind the others."""
    begun.connect("ann", "a", notify_presence=True)
    before, outbox = kept(begun), begun.engine.outbox
    cursor = passed(outbox.beginning, before[:2])
    assert begun.run(outbox.settle(1, {DEFAULT: {"one": cursor}}))
    lab = crash()
    restored(lab)
    assert kept(lab) == before[2:]
    assert lab.run(lab.engine.outbox.cursors()) == {"one": cursor}
    lab.run(lab.engine.disconnect_all([Leaving(ANN, ["a"])]))
    last = kept(crash(), passed(cursor, before))
    assert [fact_form(each.fact)[:2] for each in last if each.fact] == [
        ("removed", "a"), ("vacated", "a"), ("closed", "ann"), ("offline", "ann"),
    ]  # fmt: skip


def test_numbers_of_facts_go_on_after_a_crash(begun: Lab, crash: Crash) -> None:
    """Also where every fact was passed: no later one is before the cursor of a consumer."""
    begun.connect("ann", "a")
    cursor = passed(begun.engine.outbox.beginning, kept(begun))
    assert begun.run(begun.engine.outbox.settle(1, {DEFAULT: {"one": cursor}}))
    lab = crash()
    lab.connect("bob", "b")
    assert len(kept(lab, cursor)) == 3


def test_a_connection_outlives_a_crash(begun: Lab, crash: Crash) -> None:
    """Id, user, protocol and read ranges are as before; its user is still a member, and nobody is announced."""
    begun.publish(message("m0"))
    at = begun.head()
    begun.connect("ann", "a", "b", notify_presence=True)
    begun.connect("bob", "a", protocol=SEED, conn_id="of-bob")
    begun.connect("ann", "a", conn_id="second")
    head = begun.head()
    lab = crash()
    found = restored(lab)
    assert [found[each].member for each in sorted(found)] == [
        ANN, Member("of-bob", "bob", SEED), Member("second", "ann", V07),
    ]  # fmt: skip
    assert set(found["of-ann"].channels) == {"a", "b"}
    assert found["of-ann"].private == ReadRange.of(at)
    assert at <= found["of-ann"].channels["a"].joined < found["of-bob"].channels["a"].joined <= head
    assert [each.offsets for each in found.values()] == [(head,)] * 3
    assert lab.channel("a").users == {"ann": 2, "bob": 1}
    assert lab.channel("a").always_connections == (SEED.presence is PresenceAudience.ALWAYS)
    assert (lab.user("ann").connections, lab.user("ann").channels) == (2, {"a", "b"})
    assert presences(lab) == []


def test_the_position_that_the_application_named_outlives_a_crash(begun: Lab, crash: Crash) -> None:
    """Of this log, or of another one: then what was missed cannot be proven."""
    begun.publish(message("m0"), message("m1"))
    named, other = begun.engine.position, Position.single("other", 1)
    begun.publish(message("m2"))
    begun.run(begun.engine.connect(ANN, EMPTY, since=named))
    begun.run(begun.engine.join(ANN, {"a": {}}, named))
    begun.run(begun.engine.join(ANN, {"b": {}}, other))
    [found] = restored(crash()).values()
    joined = named.offsets[0] + 1
    assert found.private == found.channels["a"] == ReadRange(joined, named.offsets[0])
    assert found.channels["b"] == ReadRange(joined, -1)


def test_a_connection_that_ended_never_comes_back(begun: Lab, crash: Crash) -> None:
    """By itself or with others, nor does a channel that was left; each was announced once."""
    members = [begun.connect(user, "a", notify_presence=True) for user in ("ann", "bob", "cid", "dan")]
    begun.disconnect(members[0], "a")
    begun.run(begun.engine.disconnect_all([Leaving(member, ["a"]) for member in members[1:3]]))
    begun.leave(members[3], "a")
    assert sorted(each for each in presences(begun) if not each[1]) == [
        (user, False) for user in ("ann", "bob", "cid", "dan")
    ]
    lab = crash()
    assert {each: dict(found.channels) for each, found in restored(lab).items()} == {"of-dan": {}}
    assert (presences(lab), lab.channel("a").users) == ([], {})


def test_a_restored_connection_leaves_once(begun: Lab, crash: Crash) -> None:
    """Its end is announced, and no further restart knows it."""
    begun.connect("ann", "a", notify_presence=True)
    second = crash()
    restored(second)
    second.run(second.engine.disconnect_all([Leaving(ANN, ["a"])]))
    assert presences(second) == [("ann", False)]
    third = crash()
    assert (restored(third), presences(third)) == ({}, [])


def test_a_restored_connection_outlives_the_next_crash(begun: Lab, crash: Crash) -> None:
    """Whether it has joined or left channels meanwhile."""
    begun.connect("ann", "a", "b")
    second = crash()
    restored(second)
    second.run(second.engine.join(ANN, {"c": {}}))
    second.run(second.engine.leave(ANN, ["a"]))
    crash()
    [found] = restored(crash()).values()
    assert set(found.channels) == {"b", "c"}


def test_an_id_that_is_registered_again_is_another_connection(begun: Lab, crash: Crash) -> None:
    """It has none of the channels that it had before, also if both are written at once."""
    begun.connect("ann", "a", "b")
    begun.disconnect(ANN, "a", "b")
    begun.connect("ann", "c")
    [found] = restored(crash()).values()
    assert set(found.channels) == {"c"}


def test_restored_connections_are_returned_once(begun: Lab, crash: Crash) -> None:
    """The node holds them from then on; the engine keeps no second copy."""
    begun.connect("ann", "a")
    lab = crash()
    assert (len(restored(lab)), restored(lab)) == (1, {})


@pytest.mark.parametrize("settings", [{}, {"notify_presence": True}])
def test_the_users_of_ended_connections_are_forgotten(
    begun: Lab, crash: Crash, settings: dict[str, Any]
) -> None:
    """Restored users and channels are idle once their connections have ended."""
    begun.connect("ann", "a", **settings)
    lab = crash()
    lab.collect(100_000.0)
    assert [user.name for user in lab.users()] == ["ann"]
    lab.run(lab.engine.disconnect(ANN, ["a"]))
    lab.collect(100_000.0)
    assert (lab.users(), lab.channels()) == ([], [])


def test_a_brief_channel_is_brief_after_a_crash(begun: Lab, crash: Crash) -> None:
    """What it became meanwhile counts, and no event that it had since is lost."""
    guest, other = begun.connect(GUEST, "brief", "visited", "used"), begun.connect(OTHER, "used too")
    begun.disconnect(begun.connect("ann", "visited"), "visited")
    begun.disconnect(begun.connect(OTHER, "left", conn_id="left"), "left")
    begun.publish(message("m1", "used"), message("m2", "used too"))
    begun.disconnect(other, "used too")
    lab = crash()
    assert [uuids(lab.replay("ann", **{name: 0})) for name in ("used", "used too")] == [["m1"], ["m2"]]
    assert lab.channel("left").last_active_s == lab.clock.wall()
    lab.collect(SOON_S)
    assert names(lab) == {"brief", "visited", "used", "used too"}
    lab.run(lab.engine.disconnect(guest, ["brief", "visited", "used"]))
    lab.collect(1.0)
    assert names(lab) == {"visited", "used", "used too"}


def test_an_event_from_before_a_brief_channel_is_none_of_its_own(begun: Lab, crash: Crash) -> None:
    """It was published when there was no such channel, and may be in the file still."""
    begun.publish(message("m1", "brief"))
    guest = begun.connect(GUEST, "brief")
    lab = crash()
    lab.run(lab.engine.disconnect(guest, ["brief"]))
    lab.collect(SOON_S)
    assert names(lab) == set()
