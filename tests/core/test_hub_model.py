"""The hub against a model: whatever happens, each connection receives its events, all of them in order."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.core.hub_bench import Bench, Tape

from channelstream.core.batch import BufferBatch
from channelstream.core.connection import Connection, ConnectionState
from channelstream.core.entry import Entry
from channelstream.core.events import Presence
from channelstream.core.position import ReadRange
from channelstream.core.seat import Seat, seat_id
from channelstream.wire.channelstream import SEED, V07

NAMES = ("ann", "bob", "cid")
SEATED = ("dan", "eve")
"""Names of members by seats; the others are users."""
ROOMS = ("a", "b")
CHOICE = st.integers(0, 3)
GROUPS = st.none() | st.frozensets(st.sampled_from((*NAMES, *SEATED)), max_size=4)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.sampled_from((*ROOMS, None)), GROUPS, GROUPS),
        st.tuples(st.sampled_from(["subscribe", "unsubscribe"]), CHOICE, st.sampled_from(ROOMS)),
        st.tuples(st.sampled_from(["flush"])),
        st.tuples(st.sampled_from(["stall", "detach", "reattach", "catch_up"]), CHOICE),
        st.tuples(st.sampled_from(["when_written"]), CHOICE, st.sampled_from(["stall", "detach"]), CHOICE),
    ),
    max_size=40,
)
WHO = st.sampled_from([0, 3])
"""Two connections of one user."""
SEAT_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take_seat"), WHO, st.just("a"), st.sampled_from(SEATED)),
        st.tuples(st.just("give_up_seat"), WHO, st.just("a")),
        st.tuples(st.sampled_from(["subscribe", "unsubscribe"]), WHO, st.just("a")),
        st.tuples(st.just("say"), st.just("a"), GROUPS, GROUPS),
        st.tuples(st.just("say_to_others"), WHO, st.just("a"), GROUPS, GROUPS),
        st.tuples(st.just("announce"), st.just("a"), st.sampled_from(("ann", *SEATED)), st.booleans()),
        st.tuples(st.sampled_from(["stall", "reattach", "catch_up"]), WHO),
    ),
    min_size=10,
    max_size=30,
)


class Naive:
    """A hub and what each connection should receive: every event is offered to every connection by the rules."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.hub = self.bench.hub
        self.log: list[tuple[Entry, set[str]]] = []
        self.tapes: dict[str, list[Tape]] = {}
        self.seats: dict[str, dict[str, Seat]] = {}
        people = (*NAMES, "ann")
        self.members = [
            Connection(f"c{number}", user, (SEED, V07)[number % 2], (0,), 15.0)
            for number, user in enumerate(people)
        ]
        for connection in self.members:
            self.tapes[connection.id] = []
            self.seats[connection.id] = {}
            self.hub.add(connection)
            self.hub.subscribe(connection, "a", ReadRange.of(0))
            self._open(connection)

    def _open(self, connection: Connection) -> None:
        tape = Tape(connection.protocol)
        self.tapes[connection.id].append(tape)
        self.hub.attach(connection, tape, BufferBatch(0))
        self.catch_up(self.members.index(connection))

    def say(
        self,
        channel: str | None,
        only: frozenset[str] | None,
        exclude: frozenset[str] | None,
        sender: str | None = None,
    ) -> None:
        receivers = {
            each.id
            for each in self.members
            for name in [self._name_in(each, channel)]
            if (self._is_in(each, channel) if channel is not None else only is not None)
            and (only is None or name in only)
            and (exclude is None or name not in exclude)
            and each.id != sender
        }
        entry = self.bench.say(channel, only, exclude, sender)
        self.log.append((entry, receivers))

    def say_to_others(
        self, who: int, channel: str, only: frozenset[str] | None, exclude: frozenset[str] | None
    ) -> None:
        self.say(channel, only, exclude, self.members[who].id)

    def announce(self, channel: str, name: str, announced: bool) -> None:
        """Announce that somebody has joined."""
        receivers = {
            each.id
            for each in self.members
            if self._is_in(each, channel)
            and self._name_in(each, channel) != name
            and (announced or channel in self.seats[each.id] or each.protocol is SEED)
        }
        number = str(self.bench.offset + 1)
        event = Presence(
            uuid=number, channel=channel, user=name, joined=True, timestamp="t", state={}, announced=announced
        )
        self.log.append((self.bench.deliver(event), receivers))

    def _is_in(self, connection: Connection, channel: str) -> bool:
        return channel in connection.channels or channel in self.seats[connection.id]

    def _name_in(self, connection: Connection, channel: str | None) -> str:
        seat = self.seats[connection.id].get(channel or "")
        return connection.user if seat is None else seat.user

    def take_seat(self, who: int, channel: str, name: str) -> None:
        holder = self.members[who]
        if channel not in self.seats[holder.id]:
            seat = Seat(seat_id(holder.id, self.bench.offset), name, holder, channel, self.hub.offsets)
            self.seats[holder.id][channel] = seat
            self.hub.add_seat(seat)
            self.hub.subscribe(seat, channel, ReadRange.of(self.hub.offsets[0]))

    def give_up_seat(self, who: int, channel: str) -> None:
        seat = self.seats[self.members[who].id].pop(channel, None)
        if seat is not None:
            self.hub.unsubscribe(seat, channel)
            self.hub.remove(seat)

    def subscribe(self, who: int, channel: str) -> None:
        if channel not in self.members[who].channels:
            self.hub.subscribe(self.members[who], channel, ReadRange.of(self.hub.offsets[0]))

    def unsubscribe(self, who: int, channel: str) -> None:
        if channel in self.members[who].channels:
            self.hub.unsubscribe(self.members[who], channel)

    def flush(self) -> None:
        self.hub.flush()

    def stall(self, who: int) -> None:
        if self.members[who].state is ConnectionState.LIVE:
            self.hub.stall(self.members[who], BufferBatch(0))

    def detach(self, who: int) -> None:
        if self.members[who].state is not ConnectionState.DETACHED:
            self.hub.detach(self.members[who], 99.0)

    def reattach(self, who: int) -> None:
        self._open(self.members[who])

    def catch_up(self, who: int) -> None:
        """Go live with the entries of the log after the delivered offsets."""
        connection = self.members[who]
        if connection.state is ConnectionState.CATCHING_UP:
            missed = [
                entry
                for entry, receivers in self.log
                if connection.id in receivers and entry.offset > connection.delivered[0]
            ]
            self.hub.go_live(connection, missed)

    def when_written(self, who: int, what: str, victim: int) -> None:
        """Let the next write to one stall or detach one."""
        tape = self.tapes[self.members[who].id][-1]

        def once() -> None:
            tape.on_write = lambda: None
            getattr(self, what)(victim)

        tape.on_write = once

    def delivered(self, connection: Connection) -> list[str]:
        return [uuid for tape in self.tapes[connection.id] for write in tape.uuids() for uuid in write]

    def meant(self, connection: Connection) -> list[str]:
        return [entry.event.uuid for entry, receivers in self.log if connection.id in receivers]


@given(STEPS | SEAT_STEPS)
def test_every_connection_receives_exactly_its_events_in_order(steps: list[tuple[Any, ...]]) -> None:
    """After any sequence of steps, once all have caught up: no event missing, none twice, none out of order.

    What was written is counted.
    """
    naive = Naive()
    for name, *arguments in steps:
        getattr(naive, name)(*arguments)
    # A pending call back may stall or detach once more per connection, so that rounds are needed until all is quiet.
    for _ in range(len(naive.members) + 1):
        for who, connection in enumerate(naive.members):
            if connection.state is ConnectionState.DETACHED:
                naive.reattach(who)
            naive.catch_up(who)
        naive.flush()
    for connection in naive.members:
        assert connection.state is ConnectionState.LIVE
        assert naive.delivered(connection) == naive.meant(connection)
    writes = [write for tapes in naive.tapes.values() for tape in tapes for write in tape.written]
    assert naive.hub.written.size == sum(map(len, writes))
    assert naive.hub.written.events == sum(map(len, map(naive.delivered, naive.members)))


@given(st.lists(st.sampled_from(ROOMS), min_size=1, max_size=8), st.integers(2, 6))
def test_equal_recipients_share_the_same_bytes(said: list[str], count: int) -> None:
    """Members of the same channels are written one object in each tick."""
    bench = Bench()
    tapes = [bench.member(f"u{number}", *ROOMS)[1] for number in range(count)]
    bench.member("partly", "a")
    for channel in said:
        bench.say(channel)
    bench.hub.flush()
    assert len({id(tape.written[0]) for tape in tapes}) == 1
    assert all(len(tape.written) == 1 for tape in tapes)
