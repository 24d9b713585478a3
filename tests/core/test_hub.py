"""The hub: who receives which events, and in which writes."""

import pytest
from tests.core.hub_bench import Bench

from channelstream.core.client_protocol import ClientProtocol
from channelstream.core.events import Presence, UserLeft, UsersLeft
from channelstream.core.rounds import MANY_EVENTS, SLICE
from channelstream.wire.channelstream import SEED, V07
from channelstream.wire.framing import Framing


@pytest.fixture
def bench() -> Bench:
    return Bench()


# -- who receives


def test_only_members_receive(bench: Bench) -> None:
    """A message goes to the live connections of its channel."""
    _, inside = bench.member("ann", "a")
    _, outside = bench.member("bob", "b")
    bench.say("a")
    bench.hub.flush()
    assert (inside.uuids(), outside.uuids()) == ([["1"]], [])


def test_a_channel_without_members_here_costs_nothing(bench: Bench) -> None:
    """The offset is recorded, no flush is requested."""
    bench.say("nobody's")
    assert (bench.hub.offsets, bench.flushes_asked, bench.hub.deliveries) == ((1,), 0, 0)


def test_a_private_message_reaches_all_connections_of_its_users(bench: Bench) -> None:
    """Whatever channels they are in; users without a local connection are skipped."""
    _, one = bench.member("bob", "a")
    _, two = bench.member("bob")
    _, other = bench.member("cid", "a")
    bench.say(None, only=frozenset({"bob", "nobody"}))
    bench.hub.flush()
    assert (one.uuids(), two.uuids(), other.uuids()) == ([["1"]], [["1"]], [])


def test_an_excluded_connection_receives_nothing(bench: Bench) -> None:
    """The other connections of its user do, and all others that the message is for."""
    sender, sent = bench.member("ann", "a")
    _, second = bench.member("ann", "a")
    _, other = bench.member("bob", "a")
    bench.say("a", exclude_connection=sender.id)
    bench.say("a", exclude=frozenset({"bob"}), exclude_connection=sender.id)
    bench.say("a", only=frozenset({"ann"}), exclude_connection=sender.id)
    bench.hub.flush()
    assert (sent.uuids(), second.uuids(), other.uuids()) == ([], [["1", "2", "3"]], [["1"]])


@pytest.mark.parametrize("channels", [(), ("b",)])
def test_a_connection_that_is_not_in_the_channel_excludes_nobody(
    bench: Bench, channels: tuple[str, ...]
) -> None:
    """It may be at another node, or have left."""
    outside, _ = bench.member("ann", *channels)
    _, tape = bench.member("bob", "a")
    bench.say("a", exclude_connection=outside.id)
    bench.say("a", exclude_connection="unknown")
    bench.hub.flush()
    assert tape.uuids() == [["1", "2"]]


def test_a_message_for_nobody_reaches_nobody(bench: Bench) -> None:
    """Without a channel and without names there is no recipient."""
    _, tape = bench.member("ann", "a")
    bench.say(None)
    bench.hub.flush()
    assert tape.written == []


def test_a_private_message_in_a_channel_stays_in_it(bench: Bench) -> None:
    """Only those connections of its users receive it that are members."""
    _, inside = bench.member("bob", "a")
    _, outside = bench.member("bob", "b")
    _, other = bench.member("cid", "a")
    bench.say("a", only=frozenset({"bob"}))
    bench.hub.flush()
    assert (inside.uuids(), outside.uuids(), other.uuids()) == ([["1"]], [], [])


def test_excluded_users_receive_nothing(bench: Bench) -> None:
    """In a channel, and among the users a private message is meant for."""
    _, ann = bench.member("ann", "a")
    _, bob = bench.member("bob", "a")
    bench.say("a", exclude=frozenset({"bob"}))
    bench.say(None, only=frozenset({"ann", "bob"}), exclude=frozenset({"ann"}))
    bench.hub.flush()
    assert (ann.uuids(), bob.uuids()) == ([["1"]], [["2"]])


def test_presence_that_is_not_announced_reaches_always_connections_only(bench: Bench) -> None:
    """Each connection is asked, by user and audience."""
    _, seed = bench.member("ann", "a", protocol=SEED)
    _, second = bench.member("bob", "a")
    _, itself = bench.member("cid", "a", protocol=SEED)
    event = Presence(uuid="p", channel="a", user="cid", joined=True, timestamp="t", state={}, announced=False)
    bench.deliver(event)
    bench.hub.flush()
    assert (seed.uuids(), second.uuids(), itself.uuids()) == ([["p"]], [], [])


@pytest.mark.parametrize("announced", [True, False])
def test_users_of_a_batched_leave_receive_the_others_where_still_members(
    bench: Bench, announced: bool
) -> None:
    """As one does that joins by another connection at that moment; elsewhere it is not delivered."""
    tapes = {name: bench.member(name, "a", protocol=SEED)[1] for name in ("ann", "cid")}
    tapes["new"] = bench.member("dan", "a")[1]
    tapes["elsewhere"] = bench.member("bob", "b", protocol=SEED)[1]
    gone = tuple(UserLeft(name, f"of {name}", back) for name, back in (("ann", 1), ("bob", 0)))
    bench.offset += 1
    bench.deliver(UsersLeft(uuid="p", channel="a", departures=gone, timestamp="t", announced=announced))
    bench.flush_all()
    both = [["of ann", "of bob"]]
    assert {name: tape.uuids() for name, tape in tapes.items()} == {
        "ann": [["of bob"]],
        "cid": both,
        "new": both if announced else [],
        "elsewhere": [],
    }


def test_a_user_that_left_a_channel_receives_nothing_of_it(bench: Bench) -> None:
    """Earlier events are still written; empty indexes are not kept."""
    connection, tape = bench.member("ann", "a")
    bench.say("a")
    bench.hub.unsubscribe(connection, "a")
    bench.say("a")
    bench.hub.flush()
    assert tape.uuids() == [["1"]]
    assert bench.hub.channels == {}
    assert connection.channels == {}


def test_a_removed_connection_is_forgotten(bench: Bench) -> None:
    """Its user too, unless another connection of it is here."""
    one, _ = bench.member("ann")
    two, _ = bench.member("ann")
    bench.hub.remove(one)
    assert list(bench.hub.users) == ["ann"]
    bench.hub.remove(two)
    assert (bench.hub.users, bench.hub.connections) == ({}, {})


def test_the_connections_of_a_user_are_found_however_many_they_are(bench: Bench) -> None:
    """One takes no dict; each of several is found, until the last one has gone."""
    members = [bench.member("ann")[0] for _ in range(3)]
    hub = bench.hub
    assert list(hub.users["ann"]) == members
    for left in (2, 1):
        hub.remove(members.pop(0))
        assert list(hub.users["ann"]) == members
        assert isinstance(hub.users["ann"], tuple) == (left == 1)
    hub.remove(members[0])
    assert hub.users == {}


# -- how it is written


def test_a_tick_is_one_write_of_the_same_bytes(bench: Bench) -> None:
    """Events are in log order across channels; those who got the same share the same object."""
    _, one = bench.member("ann", "a", "b")
    _, two = bench.member("bob", "b", "a")
    _, less = bench.member("cid", "b")
    for channel in ("a", "b", "a"):
        bench.say(channel)
    bench.hub.flush()
    assert one.uuids() == [["1", "2", "3"]]
    assert one.written[0] is two.written[0]
    assert less.uuids() == [["2"]]


def test_a_flush_is_asked_for_once_a_tick(bench: Bench) -> None:
    """The first delivery requests it; after the flush the next one does so again; an empty flush writes nothing."""
    _, tape = bench.member("ann", "a")
    bench.say("a")
    bench.say("a")
    assert bench.flushes_asked == 1
    bench.hub.flush()
    bench.hub.flush()
    assert len(tape.written) == 1
    bench.say("a")
    assert bench.flushes_asked == 2


def test_a_flush_waits_for_no_more_events_when_many_wait(bench: Bench) -> None:
    """Once for each flush, also if all their recipients are others."""
    for name in ("a", "b"):
        bench.member("ann", name)
    ended = []
    for _ in range(2):
        for number in range(MANY_EVENTS + 5):
            bench.say("ab"[number % 2])
            ended.append(bench.pauses_ended)
        bench.flush_all()
    before, after = MANY_EVENTS - 1, 6
    assert ended == [0] * before + [1] * (after + before) + [2] * after


def test_what_waits_for_the_next_round_is_called_once_when_it_begins(bench: Bench) -> None:
    """Not when the rest of a round is written."""
    for number in range(SLICE + 1):
        bench.member(f"ann{number}", "a")
    bench.say("a")
    assert bench.hub.flush()
    called = list[str]()
    bench.hub.rounds.when_begun.append(lambda: called.append("begun"))
    bench.say("a")
    assert not bench.hub.flush()
    assert not called
    bench.flush_all()
    bench.say("a")
    bench.flush_all()
    assert called == ["begun"]


def test_a_round_is_asked_for_that_a_call_waits_for_and_no_stream(bench: Bench) -> None:
    """Events that come during a round may all be for connections without a stream, which wait for no round."""
    for number in range(SLICE + 1):
        bench.member(f"ann{number}", "a")
    away, _ = bench.member("away", "b")
    bench.hub.detach(away, 0.0)
    bench.say("a")
    assert bench.hub.flush()
    for _ in range(MANY_EVENTS):
        bench.say("b")
    assert bench.hub.rounds.is_behind
    called = list[str]()
    bench.hub.rounds.when_begun.append(lambda: called.append("begun"))
    asked = bench.flushes_asked
    assert not bench.hub.flush()
    assert bench.flushes_asked == asked + 1
    bench.flush_all()
    assert called == ["begun"]
    assert bench.flushes_asked == asked + 1


def test_the_hub_is_behind_while_many_events_wait_during_a_round(bench: Bench) -> None:
    for number in range(SLICE + 1):
        bench.member(f"ann{number}", "a")
    rounds, seen = bench.hub.rounds, list[bool]()
    for _ in range(2):
        for _ in range(MANY_EVENTS):
            bench.say("a")
            seen.append(rounds.is_behind)
        bench.hub.flush()
    assert seen == [False] * (2 * MANY_EVENTS - 1) + [True]
    assert not rounds.is_behind


@pytest.mark.parametrize("framing", Framing)
@pytest.mark.parametrize("protocol", [SEED, V07])
def test_each_connection_is_written_its_own_format(
    bench: Bench, protocol: ClientProtocol, framing: Framing
) -> None:
    """Protocol and framing choose the bytes, beside connections with other formats."""
    for other in Framing:
        bench.member("bob", "a", protocol=SEED, framing=other)
    _, tape = bench.member("ann", "a", protocol=protocol, framing=framing)
    bench.say("a")
    bench.hub.flush()
    (data,) = tape.written
    assert (b'"date"' in data) is (protocol is SEED)
    heads = {Framing.WEBSOCKET: b"\x81", Framing.SSE: b"id: e-1\n", Framing.POLL: b"[{"}
    head = heads.get(framing, b"\x81")  # Too short to be compressed.
    assert data.startswith(head)


def test_events_that_wait_are_counted(bench: Bench) -> None:
    """Each once, however many recipients it has; none without recipients, and none once its round has begun."""
    bench.member("ann", "a")
    bench.member("bob", "a")
    bench.say("a")
    bench.say("a")
    bench.say("empty")
    assert bench.hub.waiting_events == 2
    bench.hub.flush()
    assert bench.hub.waiting_events == 0


def test_deliveries_are_counted(bench: Bench) -> None:
    """One for each connection an event was handed to."""
    bench.member("ann", "a")
    bench.member("bob", "a")
    bench.say("a")
    bench.say(None, only=frozenset({"bob"}))
    assert bench.hub.deliveries == 3
