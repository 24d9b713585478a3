"""How far a receiver is."""

from channelstream.integrations.webhooks.progress import Progress
from channelstream.service import Kept


def test_a_cursor_is_before_the_first_open_fact() -> None:
    """In each shard, whatever is done behind it; numbers may have gaps."""
    progress = Progress((5, 0))
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
