"""Why an event reaches a connection or not: one case for each outcome."""

from itertools import count
from typing import Any

import pytest

from channelstream.close_codes import CloseCode
from channelstream.core import explain
from channelstream.core.batch import BufferBatch
from channelstream.core.connection import Connection, Step
from channelstream.core.entry import Entry
from channelstream.core.events import Event, Message, MessageDeleted, Presence, UserLeft, UsersLeft
from channelstream.core.explain import (
    WAITING,
    Fate,
    Outcome,
    is_by,
    outcomes,
    outcomes_for_connection,
    outcomes_for_user,
    summarize,
    summarize_all,
)
from channelstream.core.hub import Hub
from channelstream.core.position import ReadRange
from channelstream.wire.channelstream import SEED, V07
from channelstream.wire.framing import Framing
from channelstream.wire.protocols import PROTOCOLS


class Sink:
    """A stream that counts its writes."""

    format = PROTOCOLS.format_of(V07, Framing.POLL)

    def __init__(self) -> None:
        self.writes = 0

    def write(self, data: bytes) -> None:
        self.writes += 1

    def close(self, code: CloseCode, reason: str) -> None:
        raise NotImplementedError

    def buffered_bytes(self) -> int:
        return 0


def message(**more: Any) -> Message:
    return Message(
        **({"uuid": "u", "channel": "news", "user": "zoe", "payload": b"1", "timestamp": ""} | more)
    )


def presence(user: str, announced: bool) -> Presence:
    return Presence(
        uuid="u", channel="news", user=user, joined=True, timestamp="", state=None, announced=announced
    )


def parted(*users: str, announced: bool = True) -> UsersLeft:
    gone = tuple(UserLeft(user, f"id-{user}", len(users) - at) for at, user in enumerate(users, 1))
    return UsersLeft(uuid="u", channel="news", departures=gone, timestamp="", announced=announced)


def hub_with(state: str) -> tuple[Hub, Connection, Sink]:
    """A hub with one connection of bob, a member of news, in a state."""
    hub, sink = Hub(PROTOCOLS.formats, lambda: None), Sink()
    connection = Connection("c1", "bob", V07, (0,), 15.0)
    hub.add(connection)
    hub.subscribe(connection, "news", ReadRange.of(0))
    bring(hub, connection, state, sink)
    return hub, connection, sink


def bring(hub: Hub, connection: Connection, state: str, sink: Sink | None = None) -> None:
    """Bring a new connection into a state."""
    if state == "restored":
        connection.move(Step.RESTORE)
    elif state != "new":
        hub.attach(connection, sink or Sink(), BufferBatch(1))
    if state == "behind":
        connection.batch = connection.batch.append(Entry(1, ("e",), 0.0, message()))
    if state == "stopping":
        hub.stop_writing(connection)
    if state in ("live", "slow", "detached"):
        hub.go_live(connection, [])
    if state == "slow":
        hub.stall(connection, BufferBatch(0))
    if state == "detached":
        hub.detach(connection, 12.0)


BOB, ANN = frozenset({"bob"}), frozenset({"ann"})
CASES: list[tuple[str, Event, list[Fate]]] = [
    ("live", message(), [Fate.DELIVERED]),
    ("live", message(channel=None, only=BOB), [Fate.DELIVERED]),
    ("live", message(only=BOB), [Fate.DELIVERED]),
    ("catching up", message(), [Fate.CATCHING_UP]),
    ("behind", message(), [Fate.BEHIND]),
    ("stopping", message(), [Fate.CATCHING_UP]),
    ("slow", message(), [Fate.SLOW]),
    ("detached", message(), [Fate.DETACHED]),
    ("restored", message(), [Fate.DETACHED]),
    ("new", message(), [Fate.NEW]),
    ("live", message(exclude=BOB), [Fate.EXCLUDED]),
    ("live", message(exclude_connection="c1"), [Fate.SENDER]),
    ("live", message(exclude_connection="c2"), [Fate.DELIVERED]),
    ("live", message(only=ANN), [Fate.NOT_ADDRESSED, Fate.NO_CONNECTION]),
    ("live", message(channel="sport", only=BOB), [Fate.NOT_A_MEMBER]),
    ("live", message(channel="sport"), [Fate.NO_MEMBERS]),
    ("live", message(channel=None), [Fate.NO_ADDRESSEE]),
    ("live", message(channel=None, only=ANN), [Fate.NO_CONNECTION]),
    ("live", presence("bob", announced=True), [Fate.OWN_PRESENCE]),
    ("live", presence("zoe", announced=False), [Fate.UNANNOUNCED]),
    ("live", presence("zoe", announced=True), [Fate.DELIVERED]),
    ("live", presence("bob", announced=False), [Fate.OWN_PRESENCE]),
    ("live", parted("bob"), [Fate.OWN_PRESENCE]),
    ("live", parted("bob", "zoe"), [Fate.DELIVERED]),
    ("live", parted("bob", "zoe", announced=False), [Fate.UNANNOUNCED]),
    ("live", parted("ann", "zoe", announced=False), [Fate.UNANNOUNCED]),
]


@pytest.mark.parametrize(("state", "event", "fates"), CASES)
def test_each_rule_is_named(state: str, event: Event, fates: list[Fate]) -> None:
    """The explanation names the rule, and says "delivered" exactly where the hub then writes."""
    hub, _, sink = hub_with(state)
    assert [each.fate for each in outcomes(hub, event, 2.0)] == fates
    hub.deliver(Entry(1, ("e",), 0.0, event))
    hub.flush()
    assert sink.writes == (Fate.DELIVERED in fates)


def test_the_seconds_left_are_shown() -> None:
    """A detached connection is shown with the time until its deadline."""
    hub, _, _ = hub_with("detached")
    assert [each.wait_s for each in outcomes(hub, message(), 2.0)] == [10]


@pytest.mark.parametrize(
    ("name", "event", "fates"),
    [
        ("bob", message(), [Fate.DELIVERED]),
        ("bob", message(channel="sport"), []),
        ("bob", message(exclude=BOB), [Fate.EXCLUDED]),
        ("zoe", message(), []),
        ("ann", message(), []),
        ("ann", message(channel=None, only=ANN), [Fate.NO_CONNECTION]),
    ],
)
def test_a_user_gets_the_outcomes_that_concern_it(name: str, event: Event, fates: list[Fate]) -> None:
    """A user's trace has its channels and messages to it, and not where its own messages went."""
    hub, _, _ = hub_with("live")
    assert [each.fate for each in outcomes_for_user(hub, event, name, 0.0)] == fates


def test_a_connection_gets_the_outcomes_that_concern_it() -> None:
    """Another channel's event does not concern a connection."""
    _, connection, _ = hub_with("live")
    assert [each.fate for each in outcomes_for_connection(connection, message(), 0.0)] == [Fate.DELIVERED]
    assert list(outcomes_for_connection(connection, message(channel="sport"), 0.0)) == []


def test_a_user_s_own_events_are_known() -> None:
    """Those it sent, and its presence."""
    assert is_by(message(), "zoe")
    assert is_by(presence("bob", announced=True), "bob")
    assert is_by(parted("bob", "zoe"), "zoe")
    assert not is_by(message(), "bob")
    assert not is_by(MessageDeleted(uuid="u", channel="news"), "bob")


def crowd() -> Hub:
    """A hub with three connections of each protocol in each state, all in news, and two users outside."""
    hub = Hub(PROTOCOLS.formats, lambda: None)
    numbers = count()
    for state in ("new", "catching up", "behind", "live", "slow", "detached"):
        for protocol in (SEED, V07):
            for _ in range(3):
                number = next(numbers)
                connection = Connection(f"c{number}", f"u{number}", protocol, (0,), 15.0)
                hub.add(connection)
                hub.subscribe(connection, "news", ReadRange.of(0))
                bring(hub, connection, state)
    for name in ("u1", "outside"):
        hub.add(Connection(f"outside of {name}", name, V07, (0,), 15.0))
    return hub


SOME = frozenset({"u1", "u7", "u13", "u20", "outside", "nobody"})


@pytest.mark.parametrize("named", [0, 2, 1000])
@pytest.mark.parametrize(
    "event",
    [
        message(),
        message(exclude=SOME),
        message(only=SOME),
        message(only=SOME, exclude=frozenset({"u1", "u8"})),
        message(channel=None, only=SOME),
        message(channel="sport"),
        presence("u7", announced=True),
        presence("u8", announced=False),
        parted("u1", "u7"),
        parted("u1", "u8", announced=False),
        parted("u13"),
    ],
)
def test_the_summary_agrees_with_the_outcome_of_each(event: Event, named: int) -> None:
    """Counted together or one by one, it is the same; of outcomes of one kind any may be named."""
    hub = crowd()
    found, each = summarize_all(hub, event, 2.0, named), list(outcomes(hub, event, 2.0))
    expected = summarize(each, named)
    assert found.counts == expected.counts
    assert list(map(kind_of, found.samples)) == list(map(kind_of, expected.samples))
    assert len(set(found.samples) & set(each)) == len(found.samples)


def kind_of(found: Outcome) -> str:
    return "waits" if found.fate in WAITING else "delivered" if found.fate is Fate.DELIVERED else "excluded"


def test_what_waits_is_named_first() -> None:
    """Six of 510 members wait: all of them are named, then those that a rule excludes, then delivered ones."""
    hub = Hub(PROTOCOLS.formats, lambda: None)
    for number in range(510):
        connection = Connection(f"c{number}", f"u{number}", V07, (0,), 15.0)
        hub.add(connection)
        hub.subscribe(connection, "news", ReadRange.of(0))
        waits = {100: "slow", 200: "detached", 300: "behind", 400: "catching up", 500: "new", 509: "slow"}
        bring(hub, connection, waits.get(number, "live"))
    found = summarize_all(hub, message(exclude=frozenset({"u3", "u505"})), 2.0, 50)
    assert {each.conn_id for each in found.samples[:6]} == {"c100", "c200", "c300", "c400", "c500", "c509"}
    assert {each.conn_id for each in found.samples[6:8]} == {"c3", "c505"}
    assert {each.fate for each in found.samples[8:]} == {Fate.DELIVERED}
    assert (len(found.samples), sum(found.counts.values())) == (50, 510)


def test_members_with_one_outcome_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a large channel only members that are named, catch up or are listed are examined one by one."""
    asked: list[Connection] = []
    ask = explain.outcome

    def note(connection: Connection, event: Event, now_s: float) -> Outcome:
        asked.append(connection)
        return ask(connection, event, now_s)

    hub = Hub(PROTOCOLS.formats, lambda: None)
    for number in range(1000):
        connection = Connection(f"c{number}", f"u{number}", V07, (0,), 15.0)
        hub.add(connection)
        hub.subscribe(connection, "news", ReadRange.of(0))
    monkeypatch.setattr(explain, "outcome", note)
    found = summarize_all(hub, message(exclude=SOME), 2.0, 10)
    assert found.counts == {Fate.NEW.value: 996, Fate.EXCLUDED.value: 4}
    assert len(found.samples) == 10
    assert len(asked) == 15
