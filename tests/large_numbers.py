"""Large numbers in JSON, for which msgspec takes 500 times as long as for others (`core.numbers`)."""

import time
from collections.abc import Callable

COUNT = 5000
MOST_TIMES = 20


def check_time(read: Callable[[bytes], object]) -> None:
    """Check that a list of large numbers is read in about the time of one with others.

    Args:
        read: reads the JSON of a list.
    """
    large, others = (_least_s(read, b"[%b]" % b",".join([number] * COUNT)) for number in (b"1e300", b"1e200"))
    assert large < MOST_TIMES * others


def _least_s(read: Callable[[bytes], object], text: bytes) -> float:
    least_s = float("inf")
    for _ in range(3):
        began_s = time.thread_time()
        read(text)
        least_s = min(least_s, time.thread_time() - began_s)
    return least_s
