"""What is counted while the server runs, beyond the counters that the node has anyway.

The values of each label are few, whatever strangers send: close codes that nobody knows are `other`, and a route is the path
of the table and not that of the request.
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import product
from time import perf_counter
from typing import Any, TypeVar, cast

from channelstream.core.connection import Connection, ConnectionState, Stream
from channelstream.core.endings import CODES, NO_CODE, OTHER, code_label
from channelstream.core.entry import Entry
from channelstream.errors import BadSignature, Forbidden, Unavailable
from channelstream.http.address_rates import AddressLimit
from channelstream.integrations.metrics.samples import Histogram
from channelstream.service.signals import Signals

STREAMS = ("websocket", "websocket_compressed", "sse")
"""The transports whose streams end with a code or without one."""
POLL = "long_poll"
UPGRADES = ("done", "failed")
REASONS = (Forbidden.code, BadSignature.code)
BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
OPERATIONS = (
    "head", "publish", "replay", "catch_up", "connect", "disconnect", "disconnect_all", "join", "leave", "configure",
    "update_user", "channels", "channels_at", "users", "counts", "states", "members_at", "collect",
)  # fmt: skip
"""The calls of an engine that are counted."""
CLUSTER_OPERATIONS = ("members", "nodes", "ask", "ask_node", "use_once", "confirm_ownership", "claim")
"""The calls of its cluster that are counted."""
WAITED_FOR = frozenset(OPERATIONS) - {"catch_up", "collect"}
"""The calls that requests and streams wait for, and that do not wait for anything else than the engine."""

T = TypeVar("T")
K = TypeVar("K")


def zeros(labels: Iterable[K]) -> Counter[K]:
    """Return counters that exist before they count: `rate` of Prometheus does not see the first value of a new series."""
    return Counter(dict.fromkeys(labels, 0))


@lru_cache(maxsize=64)
def _slug(name: str) -> str:
    return re.sub(r"\W+", "_", name.lower())


def transport_label(stream: Stream) -> str:
    """Return the transport of a stream as a label: `websocket`, `websocket_compressed`, `sse` or `long_poll`."""
    return _slug(stream.format.name)


class EngineCalls:
    """Counts the calls of an engine by operation.

    Attributes:
        latency: the time of those that are waited for (`WAITED_FOR`), whatever their end.
    """

    def __init__(self) -> None:
        self.ended: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.latency = Histogram(BUCKETS_S)

    def measured(self, engine: T) -> T:
        """Return an engine whose calls are counted."""
        self.failed = zeros((*OPERATIONS, *CLUSTER_OPERATIONS))
        proxy = _Measured(engine, OPERATIONS, self)
        proxy.cluster = _Measured(proxy.cluster, CLUSTER_OPERATIONS, self)
        return cast(T, proxy)

    def wrap(self, operation: str, call: Callable[..., Any]) -> Callable[..., Any]:
        is_waited_for = operation in WAITED_FOR

        async def measured(*arguments: Any, **named: Any) -> Any:
            began_s = perf_counter()
            try:
                return await call(*arguments, **named)
            except Unavailable:
                self.failed[operation] += 1
                raise
            finally:
                took_s = perf_counter() - began_s
                self.ended[operation] += 1
                self.seconds[operation] += took_s  # type: ignore[assignment]
                if is_waited_for:
                    self.latency.observe(took_s)

        return measured


class _Measured:
    """Passes everything on, and counts the operations."""

    cluster: Any

    def __init__(self, target: Any, operations: Iterable[str], calls: EngineCalls) -> None:
        self._target = target
        for name in operations:
            setattr(self, name, calls.wrap(name, getattr(target, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


class Meter:
    """The counters of a process.

    Attributes:
        opened: streams by transport.
        closed: streams by transport and close code.
        ended: connections by close code.
        replayed: events read from the log for clients.
        lost: channels that clients were sent as lost.
        latency: from the arrival of an event to its write.
        delay: of the timers of the event loop.
        requests: answers by the path of the route and the status, which `http.shared.HttpServer` counts.
        refused: API calls by the code of the error.
        address_refused: streams, sign-ins and checks of credentials that addresses were refused.
        upgrades: upgrades by their result.
        engine: the calls of the engine.
    """

    def __init__(self, writes: Callable[[], int]) -> None:
        """Create counters that begin at zero.

        Args:
            writes: returns the number of writes since the start (`Hub.writes`).
        """
        codes = (*CODES.values(), NO_CODE, OTHER)
        self.opened = zeros((*STREAMS, POLL))
        self.closed = zeros(product(STREAMS, codes))
        self.ended = zeros(codes)
        self.replayed = self.lost = 0
        self.latency = Histogram(BUCKETS_S)
        self.delay = Histogram(BUCKETS_S)
        self.requests: dict[tuple[str, int], int] = {}
        self.refused = zeros(REASONS)
        self.address_refused = zeros(map(str, AddressLimit))
        self.upgrades = zeros(UPGRADES)
        self.engine = EngineCalls()
        self._labels: dict[int, str] = {}
        """The transports by the numbers of their formats."""
        self._writes = writes
        self._written = 0

    def consume(self, signals: Signals) -> None:
        """Count what a node announces."""
        signals.attached.connect(self._attached)
        signals.closed.connect(self._closed)
        signals.ended.connect(self._ended)
        signals.replayed.connect(self._replayed)

    def written(self, latency_s: float) -> None:
        """Count the writes since the last call, whose oldest event arrived so long ago."""
        writes = self._writes()
        count, self._written = writes - self._written, writes
        # As `Histogram.observe`: this is called for every flush.
        latency = self.latency
        latency.counts[bisect_left(BUCKETS_S, latency_s)] += count
        latency.total_s += latency_s * count

    def _attached(self, connection: Connection) -> None:
        if connection.stream is None:
            return
        number = connection.format_number
        label = self._labels.get(number)
        if label is None:
            label = self._labels[number] = transport_label(connection.stream)
        self.opened[label] += 1

    def _closed(self, stream: Stream, code: int | None) -> None:
        self.closed[transport_label(stream), code_label(code)] += 1

    def _ended(self, connection: Connection, code: int | None, reason: str) -> None:
        # The signal is also that of a stream whose connection lives on.
        if connection.state is ConnectionState.CLOSED:
            self.ended[code_label(code)] += 1

    def _replayed(self, connection: Connection, entries: Sequence[Entry], lost: Iterable[str]) -> None:
        self.replayed += len(entries)
        self.lost += len(tuple(lost))
