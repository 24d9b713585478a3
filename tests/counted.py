"""What logs count for in their budget, computed from nothing but their entries."""

from collections import Counter
from collections.abc import Iterable

from channelstream.core.budget import Budget
from channelstream.core.entry import HELD_BYTES, Entry
from channelstream.core.log import Log


def counted_bytes(logs: Iterable[Log], budget: Budget) -> int:
    """Return the bytes of the entries of logs, each once, and its places in them; also of those that wait to be freed."""
    held: Counter[Entry] = Counter(entry for log in logs for entry in log.entries)
    held.update(entry for _, entries in budget._cut for entry in entries)
    return sum(entry.size + (logs - 1) * HELD_BYTES for entry, logs in held.items())
