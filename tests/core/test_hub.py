"""The hub: who receives which events, in which order, and what happens when a write calls back."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.core.hub_bench import Bench, Tape, fail

from channelstream.core.batch import DISCARD, BufferBatch
from channelstream.core.client_protocol import ClientProtocol
from channelstream.core.connection import ConnectionState, Step
from channelstream.core.events import Presence, UserLeft, UsersLeft
from channelstream.core.rounds import MANY_EVENTS
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


# -- a stream's life


def test_events_during_catch_up_follow_when_live(bench: Bench) -> None:
    """Buffered events are written with the next flush, before later ones, in one write."""
    connection, _ = bench.member("ann", "a")
    tape, held = Tape(), BufferBatch(10)
    bench.hub.attach(connection, tape, held)
    bench.say("a")
    bench.hub.flush()
    assert tape.written == []
    bench.hub.go_live(connection, held.buffered)
    bench.say("a")
    bench.hub.flush()
    assert tape.uuids() == [["1", "2"]]


def test_pending_events_of_a_client_that_left_stay_in_the_log(bench: Bench) -> None:
    """Nothing more is written to it, and the delivered offsets stay."""
    connection, tape = bench.member("ann", "a")
    bench.say("a")
    bench.flush_all()
    bench.say("a")
    bench.hub.discard_pending(connection)
    bench.say("a")
    bench.flush_all()
    assert (tape.uuids(), connection.delivered) == ([["1"]], (1,))
    bench.hub.discard_pending(connection)
    bench.hub.stop_writing(connection)
    bench.hub.detach(connection, 99.0)
    assert (tape.uuids(), connection.delivered) == ([["1"]], (1,))


def test_a_client_that_left_with_nothing_pending_was_sent_all(bench: Bench) -> None:
    connection, _ = bench.member("ann", "a")
    bench.say("a")
    bench.flush_all()
    bench.hub.discard_pending(connection)
    bench.say("a")
    bench.hub.detach(connection, 99.0)
    assert connection.delivered == (1,)


def test_a_client_that_leaves_while_it_catches_up_keeps_its_buffer(bench: Bench) -> None:
    """It has no pending batch: its session writes entries of the log, and finds that the stream has ended."""
    connection, _ = bench.member("ann", "a")
    buffer = BufferBatch(10)
    bench.hub.attach(connection, Tape(), buffer)
    bench.hub.discard_pending(connection)
    assert connection.batch is buffer


def test_a_detached_connection_keeps_its_delivered_offsets(bench: Bench) -> None:
    """Pending events are not written to a closed stream; they are left to the log, with later ones."""
    connection, tape = bench.member("ann", "a")
    bench.say("a")
    bench.hub.flush()
    bench.say("a")
    bench.hub.detach(connection, 99.0)
    bench.say("a")
    bench.hub.flush()
    assert tape.uuids() == [["1"]]
    assert (connection.delivered, connection.batch, connection.stream) == ((1,), DISCARD, None)
    assert (connection.state, connection.deadline_s) == (ConnectionState.DETACHED, 99.0)
    assert not hasattr(connection, "write")


def test_a_connection_that_detaches_while_catching_up_keeps_its_offsets(bench: Bench) -> None:
    """Buffered events were not written and do not count as delivered; nothing is buffered from then on."""
    connection, _ = bench.member("ann", "a")
    bench.hub.attach(connection, Tape(), BufferBatch(10))
    bench.say("a")
    bench.hub.detach(connection, 99.0)
    assert (connection.delivered, connection.batch) == ((0,), DISCARD)


def test_nothing_is_written_to_a_stalled_connection(bench: Bench) -> None:
    """Pending events are written, later ones gather in the given batch."""
    connection, tape = bench.member("ann", "a")
    held = BufferBatch(10)
    bench.say("a")
    bench.hub.stall(connection, held)
    later = bench.say("a")
    bench.hub.flush()
    assert tape.uuids() == [["1"]]
    assert (connection.delivered, held.buffered) == ((1,), [later])
    assert connection.state is ConnectionState.CATCHING_UP


def test_a_new_stream_takes_over_from_the_old_one(bench: Bench) -> None:
    """Pending events go to the old stream, later ones to the new one, in its own format."""
    connection, old = bench.member("ann", "a")
    bench.say("a")
    new = bench.attach(connection, Framing.SSE)
    bench.say("a")
    bench.hub.flush()
    assert old.uuids() == [["1"]]
    assert [data[:8] for data in new.written] == [b"id: e-2\n"]
    assert connection.deadline_s is None


def test_stop_writing_changes_no_state(bench: Bench) -> None:
    """The last step before a connection is closed: pending events are written, then nothing."""
    connection, tape = bench.member("ann", "a")
    bench.say("a")
    bench.hub.stop_writing(connection)
    bench.say("a")
    bench.hub.flush()
    assert tape.uuids() == [["1"]]
    assert (connection.delivered, connection.state) == ((1,), ConnectionState.LIVE)


# -- a write that calls back


@pytest.mark.parametrize("victim", [0, 1, 2, 3])
@pytest.mark.parametrize("how", ["stall", "detach", "attach", "mute"])
def test_a_write_may_end_or_stall_any_stream(bench: Bench, victim: int, how: str) -> None:
    """Written before, being written or still waiting, in this format or another: each receives everything once."""
    framings = (Framing.POLL, Framing.POLL, Framing.POLL, Framing.SSE)
    members = [bench.member("ann", "a", framing=framing) for framing in framings]
    target = members[victim][0]

    def call_back() -> None:
        members[1][1].on_write = lambda: None
        calls: dict[str, Callable[[], Any]] = {
            "stall": lambda: bench.hub.stall(target, BufferBatch(0)),
            "detach": lambda: bench.hub.detach(target, 99.0),
            "attach": lambda: bench.attach(target),
            "mute": lambda: bench.hub.stop_writing(target),
        }
        calls[how]()

    members[1][1].on_write = call_back
    bench.say("a")
    bench.hub.flush()
    written = [1, 1, 1, 1]
    if how == "detach" and victim == 2:
        written[victim] = 0  # It still waited: what was for it is left to the log.
    assert [len(tape.written) for _, tape in members] == written
    assert target.delivered == (written[victim],)
    bench.say("a")
    bench.hub.flush()
    still = [2, 2, 2, 2]
    still[victim] = written[victim]
    assert [len(tape.written) for _, tape in members] == still


def test_the_last_write_of_a_stalling_stream_may_end_it(bench: Bench) -> None:
    """The last write to a stalling stream finds it closed: the connection is detached, and stays so."""
    connection, tape = bench.member("ann", "a")
    tape.on_write = lambda: bench.hub.detach(connection, 99.0)
    bench.say("a")
    bench.hub.stall(connection, BufferBatch(0))
    assert (connection.state, connection.batch, connection.delivered) == (
        ConnectionState.DETACHED,
        DISCARD,
        (1,),
    )


def test_a_write_may_bring_new_events(bench: Bench) -> None:
    """They reach all recipients once, after earlier ones; another flush is requested where needed."""
    members = [bench.member("ann", "a")[1] for _ in range(3)]

    def speak() -> None:
        members[1].on_write = lambda: None
        bench.say("a")

    members[1].on_write = speak
    bench.say("a")
    bench.hub.flush()
    assert bench.flushes_asked == 2
    bench.hub.flush()
    assert [[uuid for write in tape.uuids() for uuid in write] for tape in members] == [["1", "2"]] * 3


def test_a_failed_write_ends_only_its_own_stream(bench: Bench) -> None:
    """The stream on which a write fails ends, with nothing of it delivered; the others get it, now and later."""
    members = [bench.member("ann", "a") for _ in range(4)]
    connection, tape = members[1]
    offsets = bench.hub.offsets
    tape.on_write = fail
    tape.on_close = lambda: bench.hub.detach(connection, 99.0)
    bench.say("a")
    with pytest.raises(RuntimeError, match="a bug"):
        bench.hub.flush()
    assert (connection.stream, connection.delivered) == (None, offsets)
    bench.flush_all()
    bench.say("a")
    bench.flush_all()
    others = [tape.uuids() for _, tape in members if tape is not members[1][1]]
    assert others == [[["1"], ["2"]]] * 3


def test_a_write_that_fails_as_it_ends_its_stream(bench: Bench) -> None:
    """A stream that has ended by itself is not ended once more."""
    connection, tape = bench.member("ann", "a")

    def detach_and_fail() -> None:
        bench.hub.detach(connection, 99.0)
        fail()

    tape.on_write = detach_and_fail
    bench.say("a")
    with pytest.raises(RuntimeError, match="a bug"):
        bench.hub.flush()
    assert connection.stream is None
    bench.flush_all()


def test_the_last_write_of_a_stream_may_fail(bench: Bench) -> None:
    """Writes that fail on a stalled or replaced stream do not count as delivered, and the new one is attached."""
    connection, tape = bench.member("ann", "a")
    offsets = bench.hub.offsets
    tape.on_write = fail
    bench.say("a")
    bench.hub.stall(connection, BufferBatch(0))
    assert (connection.state, connection.delivered) == (ConnectionState.CATCHING_UP, offsets)
    bench.hub.go_live(connection, [])
    offsets = bench.hub.offsets
    bench.say("a")
    new = Tape()
    bench.hub.attach(connection, new, BufferBatch(0))
    assert (connection.stream, connection.delivered) == (new, offsets)


def test_a_closed_connection_makes_no_transitions(bench: Bench) -> None:
    """Attaching to it raises."""
    connection, _ = bench.member("ann")
    bench.hub.stop_writing(connection)
    connection.move(Step.CLOSE)
    with pytest.raises(KeyError):
        bench.attach(connection)
