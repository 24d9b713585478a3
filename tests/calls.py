"""Counts the calls of functions, as a measure of work that a busy machine does not change."""

import gc
import sys
from collections.abc import Callable
from types import FrameType


def calls(work: Callable[[], object], *, in_c: bool = False) -> int:
    """Return how many functions in Python some work calls, each step of a generator included.

    No garbage is collected meanwhile: the finalizers of other tests' objects would be counted.

    Args:
        in_c: count functions in C as well.
    """
    kinds = ("call", "c_call") if in_c else ("call",)
    found = 0

    def profile(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal found
        found += event in kinds

    was_enabled, before = gc.isenabled(), sys.getprofile()
    gc.disable()
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(before)
        if was_enabled:
            gc.enable()
    return found
