"""Logs and entries of the tests of logs and of their budget."""

from channelstream.core.budget import Budget
from channelstream.core.entry import ENTRY_OVERHEAD, Entry
from channelstream.core.events import Message
from channelstream.core.log import Log, LogLimits

PLENTY = 10**9
ONE = ENTRY_OVERHEAD + 2
"""Bytes an entry with a payload of one byte counts for."""


def message(uuid: str, payload: bytes = b"1") -> Message:
    return Message(uuid=uuid, channel="a", user="ann", payload=payload, timestamp="t")


def entry(offset: int, at_s: float = 0.0, payload: bytes = b"1") -> Entry:
    return Entry(offset, ("e",), at_s, message(f"m{offset}", payload))


def log(events: int = 10, age_s: float | None = None, budget: Budget | None = None, floor: int = 0) -> Log:
    return Log(LogLimits(events, age_s), budget or Budget(PLENTY), floor)


def filled(count: int, events: int = 10, age_s: float | None = None, budget: Budget | None = None) -> Log:
    full = log(events, age_s, budget)
    for number in range(1, count + 1):
        full.append(entry(number, float(number)))
    return full


def offsets(of: Log) -> list[int]:
    return [kept.offset for kept in of.entries]


def sweep(budget: Budget, now_s: float) -> int:
    """Free expired entries; return in how many steps."""
    return sum(1 for _ in budget.sweep(now_s))
