"""Checks for every client that no message is lost, duplicated or out of order, and measures the latency.

Clients that received the same bytes so far share one `ReceiveState`, and a state caches the next state for each chunk of
bytes. So bytes that a server sends to 10,000 clients are parsed once, and every other client costs one dict lookup:
the check is exact for each client and cheaper than the server's own work.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from channelstream.bench.histogram import Histogram
from channelstream.bench.stamps import Stamp, positions_in, stamps_in

Source = tuple[int, int]
"""A publisher and a channel. Each source numbers its own messages."""

RESOLUTION_BITS = 14
"""Resolution of receipt times: 2 ** 14 ns, about 16 µs."""
_STEPS_KEPT = 256
"""Most cached steps of one state. Beyond it the cache is cleared."""


@dataclass(slots=True)
class Faults:
    """Violations of the delivery guarantees.

    Attributes:
        duplicated: messages that were received twice.
        out_of_order: messages received after a later one of the same publisher and channel.
        position_disorder: events whose position is not above that of the previous event.
    """

    duplicated: int = 0
    out_of_order: int = 0
    position_disorder: int = 0

    def __bool__(self) -> bool:
        return bool(self.duplicated or self.out_of_order or self.position_disorder)

    def add(self, other: "Faults") -> None:
        self.duplicated += other.duplicated
        self.out_of_order += other.out_of_order
        self.position_disorder += other.position_disorder


class ReceiveState:
    """What a client has received: the last number of every source, and the missing numbers.

    Attributes:
        steps: cached steps, by the bytes received in this state.
    """

    __slots__ = ("last", "missing", "position", "steps")

    def __init__(
        self,
        position: int = 0,
        last: Mapping[Source, int] | None = None,
        missing: frozenset[tuple[Source, int]] = frozenset(),
    ) -> None:
        self.position = position
        self.last = last or {}
        self.missing = missing
        self.steps: dict[bytes, Step] = {}

    def lost(self, expected: Mapping[Source, int]) -> int:
        """Return how many of the sent messages are missing.

        Args:
            expected: number of messages that each source sent.
        """
        behind = sum(count - 1 - self.last.get(source, -1) for source, count in expected.items())
        return behind + len(self.missing)


class Step:
    """The change from one state to the next by the same bytes, shared by many clients.

    Attributes:
        state: the next state.
        stamps: the messages in the bytes.
        receipts: number of receipts by time, in units of 2 ** RESOLUTION_BITS ns, since the last fold.
    """

    __slots__ = ("faults", "receipts", "stamps", "state")

    def __init__(self, state: ReceiveState, stamps: Sequence[Stamp], faults: Faults) -> None:
        self.state = state
        self.stamps = stamps
        self.faults = faults
        self.receipts: dict[int, int] = {}


class Checker:
    """The checks of all clients of one process.

    Attributes:
        received: messages received by all clients together.
        last_ns: time of the latest receipt.
    """

    def __init__(self) -> None:
        self.received = 0
        self.last_ns = 0
        self.faults = Faults()
        self.latency = Histogram()
        self._touched: list[Step] = []

    def take(self, step: Step, now_ns: int) -> ReceiveState:
        """Count a step that a client takes, and return its new state."""
        if step.faults:
            self.faults.add(step.faults)
        if not step.stamps:
            return step.state
        self.received += len(step.stamps)
        self.last_ns = now_ns
        receipts = step.receipts
        if not receipts:
            self._touched.append(step)
        unit = now_ns >> RESOLUTION_BITS
        receipts[unit] = receipts.get(unit, 0) + 1
        return step.state

    def learn(self, state: ReceiveState, data: bytes, payloads: Iterable[bytes]) -> Step:
        """Parse bytes that no client has received in this state before.

        Args:
            data: the bytes, as key of the cache; empty means that the step is not cached.
            payloads: the protocol messages in the bytes.
        """
        step = _step(state, b"".join(payloads))
        if data:
            if len(state.steps) >= _STEPS_KEPT:
                state.steps.clear()
            state.steps[data] = step
        return step

    def fold(self) -> None:
        """Add the receipts since the last call to the histogram."""
        for step in self._touched:
            for unit, times in step.receipts.items():
                received_ns = (unit << RESOLUTION_BITS) + (1 << RESOLUTION_BITS - 1)
                for stamp in step.stamps:
                    self.latency.add(received_ns - stamp.sent_ns, times)
            step.receipts.clear()
        self._touched.clear()


def _step(state: ReceiveState, data: bytes) -> Step:
    """Return the step from a state by received bytes."""
    stamps = stamps_in(data)
    faults = Faults()
    position = state.position
    for number in positions_in(data):
        faults.position_disorder += number <= position
        position = max(position, number)
    if not stamps and position == state.position:
        return Step(state, (), faults)
    last, missing = dict(state.last), set(state.missing)
    for stamp in stamps:
        _count(stamp, last, missing, faults)
    return Step(ReceiveState(position, last, frozenset(missing)), stamps, faults)


def _count(stamp: Stamp, last: dict[Source, int], missing: set[tuple[Source, int]], faults: Faults) -> None:
    source = (stamp.publisher, stamp.channel)
    before = last.get(source, -1)
    if stamp.number > before:
        missing.update((source, number) for number in range(before + 1, stamp.number))
        last[source] = stamp.number
    elif (source, stamp.number) in missing:
        missing.remove((source, stamp.number))
        faults.out_of_order += 1
    else:
        faults.duplicated += 1
