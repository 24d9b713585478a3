"""The numbers in JSON of others, of which some take msgspec very long.

It takes 20 µs for a number of 1e289 and more, 500 times as long as for others: the 128 KiB of them that any stranger may
send on a WebSocket would hold the event loop for 0.4 s.
"""

from math import isfinite

import msgspec

from channelstream.core.nesting import without_strings

_SHORT_BYTES = 4096
"""A text that is not longer has so few numbers that they take 12 ms."""
_FEW = 100
_FORMS = bytes.maketrans(b"123456789+E", b"0000000000e")
_FORM = b"0e000"
"""What `_FORMS` makes of a part of each number whose exponent has three digits, as that of a large one, and of few texts."""


def finite(digits: str) -> float:
    """Return a number with a fraction or an exponent: the `float_hook` of decoders that read values of any type.

    It takes 0.5 µs for each number.

    Raises:
        ValueError: it is out of range.
    """
    number = float(digits)
    if not isfinite(number):
        raise ValueError("Number out of range")
    return number


read_any = msgspec.json.Decoder(float_hook=finite).decode
"""Reads a JSON value of any type."""


def has_many_exponents(data: bytes) -> bool:
    """Return whether valid JSON may have many large numbers.

    Where many texts look like those, all numbers with an exponent are counted. This takes less time than `finite` takes for
    the numbers of a text with many fractions, and 1.1 µs for each KB of a text without exponents.
    """
    if len(data) <= _SHORT_BYTES or data.translate(_FORMS).count(_FORM) <= _FEW:
        return False
    outside = without_strings(data)
    exponents = outside.count(b"e") + outside.count(b"E")
    return exponents > _FEW and exponents - outside.count(b"true") - outside.count(b"false") > _FEW
