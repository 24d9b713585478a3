"""How far a receiver is."""

from channelstream.integrations.webhooks.progress import Progress, ReachedShard
from channelstream.service import Kept


def test_a_cursor_is_before_the_first_open_fact() -> None:
    """In each shard, whatever is done behind it; numbers may have gaps."""
    progress = Progress((5, 0), ())
    facts = [Kept(0, 6, None), Kept(0, 9, None), Kept(1, 4, None), Kept(0, 12, None)]
    for kept in facts:
        progress.begin(kept)
    assert (progress.read, progress.cursor, progress.open) == ((12, 4), (5, 3), 4)
    progress.end(facts[1])
    assert progress.cursor == (5, 3)
    progress.end(facts[0])
    progress.end(facts[2])
    assert progress.cursor == (11, 4)
    progress.end(facts[3])
    progress.end(facts[3])
    assert (progress.cursor, progress.open) == ((12, 4), 0)


def test_what_an_earlier_sender_had_done_is_not_open() -> None:
    """What it had left is, and what is behind all that it had read; a log of another number of shards is another one."""
    reached = (ReachedShard(9, frozenset((6,))),)
    progress = Progress((5,), reached)
    assert [progress.begin(Kept(0, number, None)) for number in (6, 7, 9, 12)] == [False, True, True, False]
    assert (progress.read, progress.cursor, progress.open) == ((12,), (5,), 2)
    assert progress.reached(10) == (ReachedShard(12, frozenset((6, 12))),)
    assert progress.reached(1) == (ReachedShard(11, frozenset((6,))),)
    assert not Progress((5, 5), reached).begin(Kept(0, 7, None))
