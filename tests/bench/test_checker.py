"""The checker: it finds lost, duplicated and unordered messages of a stream, for each client separately."""

from channelstream.bench.checker import Checker, Faults, ReceiveState
from channelstream.bench.stamps import Stamp, payload

SENT_NS = 1_000_000
SOURCE = (0, 0)


def delivery(*numbers: int, positions: tuple[int, ...] = ()) -> bytes:
    """Return the bytes of a delivery: messages with these numbers, of one publisher in one channel."""
    items = [payload(Stamp(*SOURCE, number, SENT_NS), "x") for number in numbers]
    items += [b'{"position":"epoch-%d"}' % position for position in positions]
    return b"[" + b",".join(items) + b"]"


def go(checker: Checker, *chunks: bytes, start: ReceiveState | None = None) -> ReceiveState:
    """One client's way through chunks, as a stream takes it."""
    state = start or ReceiveState()
    for chunk in chunks:
        step = state.steps.get(chunk) or checker.learn(state, chunk, [chunk])
        state = checker.take(step, SENT_NS)
    return state


def test_all_messages_in_order_are_no_fault() -> None:
    """All messages, one by one or together, are right."""
    checker = Checker()
    state = go(checker, delivery(0), delivery(1, 2), delivery(3, positions=(7, 8)))
    assert (checker.received, checker.faults, state.lost({SOURCE: 4})) == (4, Faults(), 0)


def test_skipped_messages_are_lost() -> None:
    """Skipped messages are lost."""
    checker = Checker()
    state = go(checker, delivery(0), delivery(3))
    assert (checker.faults, state.lost({SOURCE: 4})) == (Faults(), 2)


def test_messages_after_the_last_received_one_are_lost() -> None:
    """Messages after the last received one are lost, also where none was received."""
    assert go(Checker(), delivery(0, 1)).lost({SOURCE: 5}) == 3
    assert ReceiveState().lost({SOURCE: 5, (1, 0): 2}) == 7


def test_a_message_received_twice_is_a_duplicate() -> None:
    """A message received twice is a duplicate, and nothing is lost."""
    checker = Checker()
    state = go(checker, delivery(0, 1), delivery(1), delivery(2))
    assert (checker.faults, state.lost({SOURCE: 3})) == (Faults(duplicated=1), 0)


def test_a_message_after_a_later_one_is_out_of_order() -> None:
    """A message received after a later one is out of order, and not lost."""
    checker = Checker()
    state = go(checker, delivery(0), delivery(2), delivery(1), delivery(3))
    assert (checker.faults, state.lost({SOURCE: 4})) == (Faults(out_of_order=1), 0)


def test_gap_duplicate_and_swap_at_once() -> None:
    """Each fault of a stream is counted once, under its own name."""
    checker = Checker()
    state = go(checker, delivery(0, 1), delivery(1), delivery(4, 3), delivery(5))
    assert (checker.faults, state.lost({SOURCE: 6})) == (Faults(duplicated=1, out_of_order=1), 1)


def test_position_that_does_not_grow() -> None:
    """Positions must grow from event to event, within a chunk and between chunks."""
    checker = Checker()
    go(checker, delivery(positions=(5, 4)), delivery(positions=(5,)), delivery(positions=(6,)))
    assert checker.faults == Faults(position_disorder=2)


def test_sources_are_counted_apart() -> None:
    """Publishers and channels have numbers of their own."""
    checker = Checker()
    chunk = (
        payload(Stamp(0, 0, 0, 1), "x") + payload(Stamp(0, 1, 0, 1), "x") + payload(Stamp(1, 0, 0, 1), "x")
    )
    state = go(checker, chunk)
    assert (checker.faults, state.lost({(0, 0): 1, (0, 1): 1, (1, 0): 1})) == (Faults(), 0)


def test_clients_share_their_way() -> None:
    """A second client that receives the same bytes is at the same place, and counts; a third that does not is elsewhere."""
    checker, start = Checker(), ReceiveState()
    first = go(checker, delivery(0), delivery(1), start=start)
    second = go(checker, delivery(0), delivery(1), start=start)
    third = go(checker, delivery(1), start=start)
    assert first is second
    assert (checker.received, first.lost({SOURCE: 2}), third.lost({SOURCE: 2})) == (5, 0, 1)


def test_fault_counts_for_each_client() -> None:
    """A fault that happens to two clients is two faults, though its bytes are read once."""
    checker, start = Checker(), ReceiveState()
    for _ in range(2):
        go(checker, delivery(0), delivery(0), start=start)
    assert checker.faults == Faults(duplicated=2)


def test_latency_is_counted_for_each_message_of_each_client() -> None:
    """The histogram holds, once folded, the time from stamp to receipt, to 16 µs."""
    checker, state = Checker(), ReceiveState()
    step = checker.learn(state, b"chunk", [delivery(0, 1)])
    for _ in range(3):
        checker.take(step, SENT_NS + 5_000_000)
    checker.fold()
    checker.fold()
    assert checker.latency.total == 6
    assert abs(checker.latency.max_ns - 5_000_000) <= 1 << 14


def test_ways_are_bounded() -> None:
    """A place does not remember more than some hundred ways out of it."""
    checker, state = Checker(), ReceiveState()
    for number in range(1000):
        go(checker, delivery(number), start=state)
    assert len(state.steps) <= 256
