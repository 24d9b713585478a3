"""The figures of the past: of an hour, a day and a week, kept by the engine.

Each node writes a sample for each interval of each range, and a reader adds up those of all nodes. Beside them are marks:
moments at which something happened to the service. A task writes both, so nothing waits for an engine that is out of reach.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from channelstream.admin.sample import Sample, over_nodes, over_time
from channelstream.admin.series import Value, row_of
from channelstream.errors import Unavailable
from channelstream.service import Record, TimeSeries
from channelstream.slices import Slices

PENDING = 1000
"""Most records that wait while the engine is out of reach; the oldest are dropped."""
SETTLED_S = 2.0
"""How long after its end an interval is shown: every node has written its sample at that moment."""
FLUSH_S = 1.0
"""How long the end of the server, or an upgrade, waits for what has to be written, in seconds."""
MARKS = "marks"
MARKS_KEPT_S = 7 * 86_400.0
MARKS_SHOWN = 100
TEXT = 200
"""Most characters of a mark."""


logger = logging.getLogger(__name__)


class Range(NamedTuple):
    """A range of time that can be looked at.

    Attributes:
        interval_s: the length of the interval of a sample.
        kept_s: how far it reaches back.
    """

    interval_s: float
    kept_s: float


RANGES = {"hour": Range(5.0, 3600.0), "day": Range(60.0, 86_400.0), "week": Range(600.0, 604_800.0)}
"""The ranges by name: each has 720 to 1,440 samples of each node."""
HOUR = RANGES["hour"]


class Mark(Struct, frozen=True):
    """Something that happened to the service.

    Attributes:
        kind: `start`, `stop`, `upgrade`, `node gone`, `engine lost`, `engine back` or
            `settings changed`.
        text: what, in a sentence.
    """

    at_s: float
    kind: str
    text: str


_sample = msgspec.msgpack.Decoder(Sample)
_mark = msgspec.msgpack.Decoder(Mark)
"""Both read what another version has written; what they cannot read is left out."""


class History:
    """Writes the samples and marks of this node, and reads those of all nodes."""

    def __init__(self, series: TimeSeries, wall: Callable[[], float], steady: Callable[[], float]) -> None:
        """Create the history of a node, which has written nothing yet.

        Args:
            wall: returns seconds since 1970.
            steady: returns seconds of a clock that never jumps.
        """
        self._series = series
        self._wall = wall
        self._steady = steady
        self._collected: dict[str, list[Sample]] = {name: [] for name in RANGES}
        self._pending: deque[tuple[str, Record, float]] = deque(maxlen=PENDING)
        self._writing: asyncio.Task[None] | None = None

    def add(self, sample: Sample) -> None:
        """Write a sample of the shortest interval, and those of longer ones that have ended with it."""
        if not sample.seconds:
            return
        for name, each in RANGES.items():
            collected = self._collected[name]
            if collected and _begin(collected[0].at_s, each) != _begin(sample.at_s, each):
                self._enqueue(name, collected)
            collected.append(sample)
            if each is HOUR:
                self._enqueue(name, collected)
        self._begin_to_write()

    def mark(self, kind: str, text: str) -> None:
        """Write a mark of this moment."""
        mark = Mark(self._wall(), kind, text[:TEXT])
        self.write(MARKS, Record(mark.at_s, msgspec.msgpack.encode(mark)), MARKS_KEPT_S)

    def write(self, series: str, record: Record, keep_s: float) -> None:
        """Write a record when all that waits is written; while the engine is out of reach it waits, too."""
        self._pending.append((series, record, keep_s))
        self._begin_to_write()

    async def flush(self) -> None:
        """Write all that waits, also what there is of the intervals that have not ended; for `FLUSH_S` at most."""
        for name, collected in self._collected.items():
            if collected:
                self._enqueue(name, collected)
        self._begin_to_write()
        if self._writing is not None:
            await asyncio.wait((self._writing,), timeout=FLUSH_S)
            self._writing.cancel()

    def _enqueue(self, name: str, collected: list[Sample]) -> None:
        sample = over_time(_begin(collected[0].at_s, RANGES[name]), collected)
        collected.clear()
        record = Record(sample.at_s, msgspec.msgpack.encode(sample))
        self._pending.append((_series_of(name), record, RANGES[name].kept_s))

    def _begin_to_write(self) -> None:
        if self._pending and (self._writing is None or self._writing.done()):
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        """Write what waits, in order; while the engine is out of reach it waits for the next sample."""
        while self._pending:
            waiting = self._pending[0]
            try:
                await self._series.append(*waiting)
            except Unavailable:
                return
            except Exception:
                # Else it would be tried for ever, and all that waits behind it would be dropped in the end.
                logger.exception("a record of %r cannot be kept, and is left out", waiting[0])
            # While it was written it may have been dropped as the oldest.
            if self._pending and self._pending[0] is waiting:
                self._pending.popleft()

    async def read(self, name: str, since_s: float = 0.0) -> list[list[Value]]:
        """Return the rows of a range after a time (`series.row_of`), in short turns.

        Raises:
            Unavailable: the engine is out of reach.
        """
        each, now_s = RANGES[name], self._wall()
        records = await self._series.read(_series_of(name), max(since_s, now_s - each.kept_s))
        settled_s = now_s - each.interval_s - SETTLED_S
        samples = (sample for sample in _read(_sample, records) if since_s < sample.at_s <= settled_s)
        rows, slices = list[list[Value]](), Slices(self._steady)
        for _, group in groupby(samples, key=attrgetter("at_s")):
            rows.append(row_of(over_nodes(list(group), each.interval_s)))
            await slices.due()
        return rows

    async def marks(self, name: str) -> list[Mark]:
        """Return the newest marks within a range, oldest first, `MARKS_SHOWN` at most.

        Raises:
            Unavailable: the engine is out of reach.
        """
        records = await self._series.read(MARKS, self._wall() - RANGES[name].kept_s, MARKS_SHOWN)
        return list(_read(_mark, records))


def _series_of(name: str) -> str:
    return f"figures of {name}"


def _begin(at_s: float, each: Range) -> float:
    return at_s - at_s % each.interval_s


def _read(decoder: "msgspec.msgpack.Decoder[Any]", records: Iterable[Record]) -> Iterable[Any]:
    for record in records:
        try:
            yield decoder.decode(record.data)
        except msgspec.MsgspecError:
            logger.debug("a record of another version is left out")
