"""The real clock and real ids; all other code gets them as arguments."""

import os
import time

DRAWN = 128
"""Ids whose random bytes are drawn at once: 2 KiB, which take 5 us (measured), and 8 KiB of memory as text."""
ID_DIGITS = 32
"""Hexadecimal digits of an id."""
VARIANTS = {digit: "89ab"[number % 4] for number, digit in enumerate("0123456789abcdef")}
"""The digit that stands for the variant (RFC 9562, 4.1), by a random one: two of its bits are random."""


class SystemClock:
    """`engines.base.Clock` of the machine."""

    wall = staticmethod(time.time)
    steady = staticmethod(time.monotonic)


class RandomIds:
    """Random UUIDs, version 4 (RFC 9562), lower-case and dashed.

    The random bytes of `DRAWN` ids are drawn at once: a system call for each would take a third of the time. Make it
    after the last fork, since a copy of it in another process would return the same ids.
    """

    def __init__(self) -> None:
        self._digits = ""
        self._at = 0

    def new(self) -> str:
        """Return an id that was never returned before."""
        at = self._at
        if at == len(self._digits):
            self._digits = os.urandom(DRAWN * ID_DIGITS // 2).hex()
            at = 0
        self._at = at + ID_DIGITS
        text = self._digits[at : at + ID_DIGITS]
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{VARIANTS[text[16]]}{text[17:20]}-{text[20:]}"


def new_epoch() -> str:
    """Return an epoch that no earlier log had: the time in milliseconds and 16 random bits, in hex."""
    return f"{time.time_ns() // 1_000_000:x}{os.urandom(2).hex()}"
