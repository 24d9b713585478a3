"""Seats: a connection that is a member of a channel under another name, and what it receives there."""

import pytest
from tests.core.hub_bench import Bench, Tape
from tests.core.test_explain import parted, presence

from channelstream.core.batch import BufferBatch
from channelstream.core.client_protocol import PresenceAudience
from channelstream.core.connection import Connection
from channelstream.core.entry import Entry
from channelstream.core.events import Event, Message
from channelstream.core.explain import Fate, outcomes, outcomes_for_connection, summarize_all
from channelstream.core.position import ReadRange
from channelstream.core.seat import Seat, holder_id, is_seat_id, seat_id
from channelstream.wire.channelstream import V07

CHANNEL = "news"


def seat_of(bench: Bench, holder: Connection, user: str, channel: str = CHANNEL) -> Seat:
    """Give a connection a seat."""
    seat = Seat(seat_id(holder.id, len(bench.hub.seats)), user, holder, channel, bench.hub.offsets)
    bench.hub.add_seat(seat)
    bench.hub.subscribe(seat, channel, ReadRange.of(bench.hub.offsets[0]))
    return seat


def give_up(bench: Bench, seat: Seat) -> None:
    for channel in list(seat.channels):
        bench.hub.unsubscribe(seat, channel)
    bench.hub.remove(seat)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def held(bench: Bench) -> tuple[Connection, Tape, Seat]:
    """A live connection, which is bob in the channel and somebody else anywhere else."""
    holder, tape = bench.member("anonymous", "other")
    return holder, tape, seat_of(bench, holder, "bob")


def test_the_id_of_a_seat_names_its_holder() -> None:
    """An id that is none of a seat names itself."""
    assert (is_seat_id(seat_id("c", 7)), is_seat_id("c")) == (True, False)
    assert holder_id(seat_id("c", 7)) == holder_id("c") == "c"
    assert seat_id("c", 7) != seat_id("c", 8)


def test_the_holder_is_sent_what_its_seat_receives(bench: Bench, held: tuple[Connection, Tape, Seat]) -> None:
    """The seat itself is in no list of connections, and is found by its id and its user."""
    holder, tape, seat = held
    bench.say(CHANNEL)
    bench.say("other")
    bench.hub.flush()
    assert tape.uuids() == [["1", "2"]]
    assert bench.hub.channels[CHANNEL] == {holder: None}
    assert bench.hub.connections == {holder.id: holder}
    assert (bench.hub.registered(seat.id), bench.hub.registered(holder.id)) == (seat, holder)
    assert (bench.hub.registered("x"), bench.hub.all_registered()) == (None, [holder, seat])
    assert bench.hub.users["bob"] == (seat,)
    assert sum(bench.hub.usage.connections.values()) == 1


def test_a_member_is_sent_the_presence_of_others_only(
    bench: Bench, held: tuple[Connection, Tape, Seat]
) -> None:
    """Its own name counts there, and that of its holder does not; also where presence is not announced."""
    _, tape, _ = held
    for event in (
        presence("bob", announced=True),
        presence("zoe", announced=True),
        presence("zoe", announced=False),
        presence("anonymous", announced=True),
        parted("bob"),
        parted("bob", "zoe"),
        parted("bob", "zoe", announced=False),
    ):
        bench.deliver(event)
    bench.hub.flush()
    [uuids] = tape.uuids()
    assert uuids == ["u", "u", "u", "id-zoe", "id-zoe"]


def test_a_message_for_some_users_reaches_their_seats(
    bench: Bench, held: tuple[Connection, Tape, Seat]
) -> None:
    """In the channel of the seat; a message that excludes the holder is not for its seat either."""
    holder, tape, _ = held
    bench.say(CHANNEL, only=frozenset({"bob"}))
    bench.say("other", only=frozenset({"bob"}))
    bench.say(CHANNEL, only=frozenset({"bob"}), exclude_connection=holder.id)
    bench.say(CHANNEL, exclude_connection=holder.id)
    bench.say(CHANNEL, exclude=frozenset({"bob"}))
    bench.hub.flush()
    assert tape.uuids() == [["1"]]


def test_a_connection_may_be_in_a_channel_by_itself_as_well(
    bench: Bench, held: tuple[Connection, Tape, Seat]
) -> None:
    """It is sent each event once, and until it has left as both."""
    holder, tape, seat = held
    bench.hub.subscribe(holder, CHANNEL, ReadRange.of(0))
    bench.say(CHANNEL)
    give_up(bench, seat)
    bench.say(CHANNEL)
    again = seat_of(bench, holder, "bob")
    bench.hub.unsubscribe(holder, CHANNEL)
    bench.say(CHANNEL)
    give_up(bench, again)
    bench.say(CHANNEL)
    bench.hub.flush()
    assert tape.uuids() == [["1", "2", "3"]]
    assert (holder.seats, bench.hub.seats, CHANNEL in bench.hub.channels) == (None, {}, False)


def test_what_a_stream_reads_are_the_channels_of_its_seats_too(
    bench: Bench, held: tuple[Connection, Tape, Seat]
) -> None:
    """Those that a seat is joining are not read yet."""
    holder, _, seat = held
    assert dict(holder.readable) == {"other": ReadRange.of(0), CHANNEL: ReadRange.of(0)}
    assert holder.all_joining == frozenset()
    seat.joining = frozenset({CHANNEL})
    holder.joining = frozenset({"more"})
    assert holder.all_joining == {CHANNEL, "more"}
    seat_of(bench, holder, "bob", "third")
    assert list(holder.readable) == ["other", CHANNEL, "third"]
    assert (holder.member_in(None), holder.member_in("other"), holder.member_in(CHANNEL)) == (
        holder,
        holder,
        seat,
    )


def test_seats_of_a_protocol_share_theirs(bench: Bench, held: tuple[Connection, Tape, Seat]) -> None:
    """It has the name of the holder's, and presence events of every channel."""
    holder, _, seat = held
    assert seat.protocol == (holder.protocol.name, PresenceAudience.ALWAYS)
    assert seat_of(bench, holder, "bob", "third").protocol is seat.protocol


CASES: list[tuple[Event, Fate]] = [
    (presence("bob", announced=True), Fate.OWN_PRESENCE),
    (presence("zoe", announced=False), Fate.DELIVERED),
    (
        Message(uuid="u", channel=CHANNEL, user="", payload=b"1", timestamp="", exclude_connection="c0"),
        Fate.SENDER,
    ),
]


@pytest.mark.parametrize(("event", "fate"), CASES)
def test_the_holder_is_shown_as_the_recipient(
    bench: Bench, held: tuple[Connection, Tape, Seat], event: Event, fate: Fate
) -> None:
    """As the hub delivers."""
    holder, _, _ = held
    assert [each.fate for each in outcomes(bench.hub, event, 0.0)] == [fate]
    assert [each.fate for each in outcomes_for_connection(holder, event, 0.0)] == [fate]
    assert summarize_all(bench.hub, event, 0.0, 0).counts == {fate.value: 1}
    before = bench.hub.deliveries
    bench.hub.deliver(Entry(1, ("e",), 0.0, event))
    assert bench.hub.deliveries - before == (fate is Fate.DELIVERED)


def test_a_seat_has_no_stream_and_drops_what_it_is_given(bench: Bench) -> None:
    """Private messages of its user, which no call can name, cost nothing."""
    holder = Connection("c", "anonymous", V07, (0,), None)
    bench.hub.add(holder)
    bench.hub.attach(holder, Tape(), BufferBatch(10))
    seat = seat_of(bench, holder, "bob")
    bench.say(None, only=frozenset({"bob"}))
    assert (seat.stream, seat.batch.entries(), seat.receiver) == (None, [], holder)
