"""How far receivers are beyond their cursors is kept now and then."""

import asyncio

import pytest

from channelstream.engines.time_series import RECORD_BYTES, LocalTimeSeries
from channelstream.integrations.webhooks.ahead import EVERY_S, KEPT_AGAIN_S, KEPT_S, MOST_LEFT, SentAhead
from channelstream.integrations.webhooks.progress import Progress, Reached, ReachedShard
from channelstream.service import Kept, Record

LARGE = 1_800_000_000_000_000
"""About the numbers of Redis, which begin with its time in us."""


class Kepts:
    """The records, and the time."""

    def __init__(self) -> None:
        self.series = LocalTimeSeries()
        self.now_s = 1000.0
        self.ahead = SentAhead(self.series, lambda: self.now_s)

    def keep(self, progress: Progress, wait_s: float = EVERY_S, *, is_end: bool = False) -> None:
        self.now_s += wait_s
        asyncio.run(self.ahead.keep("r", progress, is_end=is_end))

    def read(self) -> Reached:
        return asyncio.run(self.ahead.read("r"))

    @property
    def count(self) -> int:
        return sum(1 for _ in self.series.rows())


def progress_of(*left: int, count: int = 10) -> Progress:
    """Return one that has read so many facts of a shard, and sent all but these."""
    progress = Progress((0,), ())
    for number in range(1, count + 1):
        progress.begin(Kept(0, number, None))
        if number not in left:
            progress.end(Kept(0, number, None))
    return progress


def test_it_is_kept_while_the_cursor_stays() -> None:
    """Not at the first look, not more often than every ten seconds, and not twice the same."""
    kept, progress = Kepts(), progress_of(3, 5)
    kept.keep(progress)
    assert kept.read() == ()
    kept.keep(progress, EVERY_S / 2)
    assert kept.read() == ()
    kept.keep(progress)
    assert kept.read() == (ReachedShard(10, frozenset((3, 5))),)
    kept.keep(progress)
    assert kept.count == 1
    progress.end(Kept(0, 5, None))
    kept.keep(progress)
    assert (kept.count, kept.read()) == (2, (ReachedShard(10, frozenset((3,))),))
    progress.end(Kept(0, 3, None))
    kept.keep(progress)
    kept.keep(progress)
    assert kept.count == 2


def test_it_is_kept_at_the_end() -> None:
    """At once, if the cursor does not say all."""
    kept = Kepts()
    kept.keep(progress_of(), is_end=True)
    assert kept.count == 0
    kept.keep(progress_of(3), 0.0, is_end=True)
    assert kept.read() == (ReachedShard(10, frozenset((3,))),)


def test_it_is_forgotten_after_an_hour() -> None:
    kept = Kepts()
    kept.keep(progress_of(3), is_end=True)
    kept.now_s += KEPT_S + 1
    assert kept.read() == ()


@pytest.mark.parametrize("is_end", [False, True])
def test_it_is_known_however_long_it_stays_the_same(is_end: bool) -> None:
    """For an hour from the last look on, or from the end."""
    kept, progress = Kepts(), progress_of(3)
    for _ in range(int(KEPT_S / EVERY_S) + 1):
        kept.keep(progress)
    kept.keep(progress, 0.0 if is_end else EVERY_S, is_end=is_end)
    kept.now_s += KEPT_S - (0.0 if is_end else KEPT_AGAIN_S)
    assert kept.read() == (ReachedShard(10, frozenset((3,))),)
    assert kept.count < KEPT_S / EVERY_S / 5


def test_a_record_has_room_for_what_is_left() -> None:
    """What is behind too many facts that wait counts as not sent, in each shard."""
    progress = Progress((0, 0), ())
    for number in range(MOST_LEFT):
        for shard in range(2):
            progress.begin(Kept(shard, LARGE + 1000 * number, None))
            progress.begin(Kept(shard, LARGE + 1000 * number + 1, None))
            progress.end(Kept(shard, LARGE + 1000 * number + 1, None))
    kept = Kepts()
    kept.keep(progress, is_end=True)
    left = frozenset(LARGE + 1000 * number for number in range(MOST_LEFT // 2))
    assert kept.read() == (ReachedShard(LARGE + 1000 * (MOST_LEFT // 2) - 1, left),) * 2
    [(_, _, data)] = kept.series.rows()
    assert len(data) < RECORD_BYTES


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x93\x01\x02\x03", b"\x91\x92\xa1x\x90"])
def test_what_another_version_has_written_counts_as_nothing(data: bytes) -> None:
    kept = Kepts()
    asyncio.run(kept.series.append("webhooks sent ahead to r", Record(kept.now_s, data), KEPT_S))
    assert kept.read() == ()
