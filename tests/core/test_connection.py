"""Connections: the transitions of their state, and what they receive."""

from itertools import product

import pytest

from channelstream.core.batch import DISCARD
from channelstream.core.client_protocol import ClientProtocol
from channelstream.core.connection import NO_NAMES, TRANSITIONS, Connection, ConnectionState, Step, without
from channelstream.core.entry import Entry
from channelstream.core.events import Message, Presence
from channelstream.core.position import ReadRange
from channelstream.core.stream_client import StreamClient, pack
from channelstream.wire.channelstream import SEED, V07


def connection(protocol: ClientProtocol = V07) -> Connection:
    return Connection("c", "ann", protocol, delivered=(7,), deadline_s=15.0)


def test_a_new_connection_receives_nothing_and_has_a_deadline() -> None:
    """It is registered, has no stream, and leaves events to the log."""
    new = connection()
    assert new.state is ConnectionState.NEW
    assert (new.stream, new.batch, new.delivered, new.deadline_s) == (None, DISCARD, (7,), 15.0)


def test_nothing_is_written_without_a_stream() -> None:
    """The writer does not take it for delivered."""
    with pytest.raises(RuntimeError, match="without a stream"):
        connection().write_all(b"x")


@pytest.mark.parametrize(("state", "step"), list(product(ConnectionState, Step)))
def test_a_connection_makes_only_the_transitions_of_the_table(state: ConnectionState, step: Step) -> None:
    """Every other transition raises."""
    moving = connection()
    moving.state = state
    if (state, step) in TRANSITIONS:
        moving.move(step)
        assert moving.state is TRANSITIONS[state, step]
    else:
        with pytest.raises(KeyError):
            moving.move(step)


def test_every_state_can_be_closed_and_a_closed_connection_stays_closed() -> None:
    """Each state but the last can be closed; from the last nothing leads away."""
    closable = {state for state, step in TRANSITIONS if step is Step.CLOSE}
    assert closable == set(ConnectionState) - {ConnectionState.CLOSED}
    assert ConnectionState.CLOSED not in {state for state, _ in TRANSITIONS}


def test_a_connection_receives_by_its_user_and_its_audience() -> None:
    """Presence that is not announced reaches `PresenceAudience.ALWAYS` only, and never the user itself."""
    event = Presence(uuid="p", channel="a", user="bob", joined=True, timestamp="t", state={}, announced=False)
    assert connection(SEED).receives(event)
    assert not connection(V07).receives(event)
    own = Presence(uuid="p", channel="a", user="ann", joined=True, timestamp="t", state={})
    assert not connection().receives(own)


def test_connections_that_join_and_leave_nothing_share_one_empty_set() -> None:
    """An idle connection has none of its own, also after it has joined and left channels."""
    assert connection().joining is connection().leaving is NO_NAMES
    assert without(frozenset(("a", "b")), ["a"]) == {"b"}
    assert without(frozenset(("a", "b")), ["a", "b", "c"]) is NO_NAMES


def test_a_connection_knows_the_client_of_its_stream() -> None:
    """None before the first stream, and where it is not known."""
    opened = connection()
    assert opened.client is None
    opened.opened_by("::1", "curl", 5.0)
    assert opened.client == StreamClient("::1", "curl", 5.0)
    assert opened.packed_client == (pack("::1", 5.0), "curl")


def test_a_request_that_follows_one_of_the_same_client_keeps_its_time() -> None:
    """One at another address, with another agent, or that opens a stream of its own, does not."""
    opened = connection()
    for address, agent, follows, since_s in (
        ("", "", True, 1.0),
        ("", "", True, 1.0),
        ("10.0.0.1", "", True, 2.0),
        ("10.0.0.1", "curl", True, 3.0),
        ("10.0.0.1", "curl", True, 3.0),
        ("10.0.0.1", "curl", False, 4.0),
        ("10.0.0.1", "curl", True, 4.0),
    ):
        now_s = opened.client.since_s + 1 if opened.client else 1.0
        opened.opened_by(address, agent, now_s, follows=follows)
        assert opened.client == StreamClient(address, agent, since_s)


def test_a_client_may_lack_what_was_sent_apart_until_it_has_a_later_position() -> None:
    """Or until it leaves the channel; where nothing was sent so, all connections share one empty mapping."""
    first, second = (Connection(name, "u", V07, (0,), None) for name in "ab")
    assert first.sent_apart is second.sent_apart
    for name in ("x", "y"):
        first.channels[name] = ReadRange.of(7)
    first.note_sent_apart([Entry(3, ("e",), 0.0, message(name), 0, (5,)) for name in ("x", "y")])
    assert {*first.lacking((5,))} == {"x", "y"}
    assert {*first.lacking((-1,))} == {"x", "y"}
    first.left("x")
    assert {*first.lacking((5,))} == {"y"}
    assert not first.lacking((6,))
    assert first.sent_apart is second.sent_apart
    first.channels["x"] = ReadRange.of(7)
    first.left("x")
    assert not first.channels.keys() - {"y"}


def message(channel: str) -> Message:
    return Message(uuid="1", channel=channel, user="u", payload=b"1", timestamp="")
