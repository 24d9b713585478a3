"""The real clock and real ids; all other code gets them as arguments."""

import os
import time

DRAWN = 128
"""Ids that are made at once: 17 us (measured), and 11 KiB of memory."""
FORM = b"00000000-0000-4000-v000-000000000000 "
"""An id, and a space after it: random digits, the version, and the digit of the variant, of which two bits are random."""
DIGITS = tuple(place for place, sign in enumerate(FORM) if sign in b"04v")
"""The places of the digits."""
VERSION, VARIANT = FORM.index(b"4"), FORM.index(b"v")
VARIANTS = bytes.maketrans(b"0123456789abcdef", b"89ab" * 4)
"""The digit of the variant by a random one (RFC 9562, 4.1)."""


class SystemClock:
    """`engines.base.Clock` of the machine."""

    wall = staticmethod(time.time)
    steady = staticmethod(time.monotonic)


class RandomIds:
    """Random UUIDs, version 4 (RFC 9562), lower-case and dashed.

    `DRAWN` of them are made at once: one by one, a third of the time would be the system call, and the rest the pieces of
    each text. Make it after the last fork, since a copy of it in another process would return the same ids.
    """

    def __init__(self) -> None:
        self._left: list[str] = []

    def new(self) -> str:
        """Return an id that was never returned before."""
        if not self._left:
            self._left = _draw()
        return self._left.pop()


def _draw() -> list[str]:
    """Return `DRAWN` new ids: each digit is put into all of them at once."""
    text, random = bytearray(FORM * DRAWN), os.urandom(DRAWN * len(DIGITS) // 2).hex().encode()
    for number, place in enumerate(DIGITS):
        if place != VERSION:
            drawn = random[number :: len(DIGITS)]
            text[place :: len(FORM)] = drawn.translate(VARIANTS) if place == VARIANT else drawn
    return text.decode().split()


def new_epoch() -> str:
    """Return an epoch that no earlier log had: the time in milliseconds and 16 random bits, in hex."""
    return f"{time.time_ns() // 1_000_000:x}{os.urandom(2).hex()}"
