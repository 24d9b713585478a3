"""Load shedding: decides when a process has too much load, and refuses new work meanwhile.

What is open stays open. What would make it more (a new connection, its first stream, a long replay) is refused with 503
before something breaks. Its caller comes back later, or is sent to another node.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from channelstream.errors import Overloaded

EASED_S = 5.0
"""How long a figure must be far enough below its bound before it sheds no more, in seconds."""


class Work(StrEnum):
    """What is refused; the metric `channelstream_shed_total` counts each."""

    CONNECTION = "connection"
    """A `/connect` of a new connection."""
    STREAM = "stream"
    """The first stream of a connection at this node."""
    REPLAY = "replay"
    """A stream that would begin with a long replay."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The bound of a figure.

    Attributes:
        limit: above it there is too much load; 0 means no bound.
        eased: the part of `limit` up to which the load counts as eased.
        samples: how many samples in a row must be above `limit`.
    """

    limit: float
    eased: float = 1.0
    samples: int = 1


NO_BOUND = Bound(0)


def memory_bound(limit_bytes: int) -> Bound:
    """Return the bound of resident memory, which changes slowly: one sample decides."""
    return Bound(limit_bytes, eased=0.95)


def delay_bound(limit_s: float) -> Bound:
    """Return the bound of the longest delay of the event loop in a sample: a single slow turn is no overload."""
    return Bound(limit_s, eased=0.5, samples=3)


class _Figure:
    """Whether one figure has too high values, with hysteresis."""

    def __init__(self, bound: Bound) -> None:
        self._bound = bound
        self._above = 0
        self._eased_since_s: float | None = None
        self.is_over = False

    def observe(self, value: float, now_s: float) -> None:
        bound = self._bound
        self._above = self._above + 1 if bound.limit and value > bound.limit else 0
        if self._above >= bound.samples:
            self.is_over = True
        if not self.is_over or value > bound.eased * bound.limit:
            self._eased_since_s = None
            return
        if self._eased_since_s is None:
            self._eased_since_s = now_s
        self.is_over = now_s - self._eased_since_s < EASED_S


class Shedding:
    """Whether a process sheds load, and what it has refused.

    Attributes:
        reason: why it sheds load: which figures are over their bounds; empty if it does not.
        refused: how much of each work was refused since the start.
    """

    def __init__(self) -> None:
        self.reason = ""
        self.refused: dict[str, int] = dict.fromkeys(Work, 0)
        self._memory, self._delay = _Figure(NO_BOUND), _Figure(NO_BOUND)

    def limit(self, memory: Bound, delay: Bound) -> None:
        """Set the bounds of resident memory, in bytes, and of the delay of the event loop, in seconds."""
        self._memory, self._delay = _Figure(memory), _Figure(delay)

    def observe(self, memory_bytes: int, delay_s: float, now_s: float) -> None:
        """Decide by the figures of the time since the last call.

        Args:
            memory_bytes: resident memory.
            delay_s: the longest delay of the event loop.
            now_s: of a steady clock.
        """
        self._memory.observe(memory_bytes, now_s)
        self._delay.observe(delay_s, now_s)
        self.reason = " and ".join(self._reasons())

    def _reasons(self) -> Iterable[str]:
        if self._memory.is_over:
            yield "memory"
        if self._delay.is_over:
            yield "loop delay"

    def check(self, work: Work) -> None:
        """Raise Overloaded, and count it, if the process takes no such work now."""
        if self.reason:
            self.refused[work] += 1
            raise Overloaded
