"""The descriptors of this process, and a limit of what it may open, for a moment."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def lowest_free() -> int:
    """Return the number that the next descriptor gets."""
    lowest = os.dup(0)
    os.close(lowest)
    return lowest


@contextmanager
def few_descriptors(most: int) -> Iterator[None]:
    """Let no descriptor be opened whose number is `most` or higher."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_descriptors() -> set[str]:
    """Return the descriptors of this process."""
    return {each.name for each in Path("/proc/self/fd").iterdir()}
