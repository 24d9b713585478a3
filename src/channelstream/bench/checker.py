"""What every client has received: nothing lost, nothing twice, all in order, and how late it was.

Clients that received the same so far share one `ReceiveState`, and a place remembers where each piece of bytes leads. So the
bytes that a server sends to 10,000 clients are read once, and every other client costs one look into a table:
the check is exact for each client and still cheaper than the server's own work.
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
"""Ways out of one place that are remembered; beyond that they are forgotten and read again."""


@dataclass(slots=True)
class Faults:
    """What must not happen.

    Attributes:
        duplicated: messages that came twice.
        out_of_order: messages that came after a later one of their publisher and channel.
        position_disorder: events whose position is not beyond that of the event before.
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
    """What a client has received: the last number of every source, and the numbers it skipped.

    Attributes:
        steps: where bytes that were received here have led to.
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
        """How many of the messages that were sent have not come.

        Args:
            expected: for every source, how many messages it sent.
        """
        behind = sum(count - 1 - self.last.get(source, -1) for source, count in expected.items())
        return behind + len(self.missing)


class Step:
    """From one place to the next by the same bytes, taken by many clients.

    Attributes:
        place: where it leads.
        stamps: the messages received on it.
        receipts: how often it was taken at which time, in units of 2 ** RESOLUTION_BITS ns, since the last fold.
    """

    __slots__ = ("faults", "receipts", "stamps", "state")

    def __init__(self, state: ReceiveState, stamps: Sequence[Stamp], faults: Faults) -> None:
        self.state = state
        self.stamps = stamps
        self.faults = faults
        self.receipts: dict[int, int] = {}


class Checker:
    """All clients of one process.

    Attributes:
        received: messages received by all clients together.
        last_ns: when the latest of them came.
    """

    def __init__(self) -> None:
        self.received = 0
        self.last_ns = 0
        self.faults = Faults()
        self.latency = Histogram()
        self._touched: list[Step] = []

    def take(self, step: Step, now_ns: int) -> ReceiveState:
        """A client goes a known step; return its new place."""
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
        """Read bytes that nobody has received at this place before.

        Args:
            data: the bytes as they came, by which the step is found again; empty where it must not be.
            payloads: the messages of the protocol that they hold.
        """
        step = _step(state, b"".join(payloads))
        if data:
            if len(state.steps) >= _STEPS_KEPT:
                state.steps.clear()
            state.steps[data] = step
        return step

    def fold(self) -> None:
        """Move the receipts since the last time into the histogram."""
        for step in self._touched:
            for unit, times in step.receipts.items():
                received_ns = (unit << RESOLUTION_BITS) + (1 << RESOLUTION_BITS - 1)
                for stamp in step.stamps:
                    self.latency.add(received_ns - stamp.sent_ns, times)
            step.receipts.clear()
        self._touched.clear()


def _step(state: ReceiveState, data: bytes) -> Step:
    """Where received bytes lead from a place."""
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
