"""The streams of a hub: what they are sent as they come, stall, end and go, and what happens when a write calls back."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.core.hub_bench import Bench, Tape, fail

from channelstream.core.batch import DISCARD, BufferBatch
from channelstream.core.connection import ConnectionState, Step
from channelstream.wire.framing import Framing


@pytest.fixture
def bench() -> Bench:
    return Bench()


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
