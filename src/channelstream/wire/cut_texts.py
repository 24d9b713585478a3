r"""Texts of clients that were cut inside a character.

`JSON.stringify` writes half of a surrogate pair, as a cut through an emoji leaves it, as `\ud83d`. msgspec takes that for no
JSON; here it counts as U+FFFD, as in a payload of the API (docs/api.md).
"""

import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

MAX_CUTS = 100
"""Most halves of pairs in a text; with more it counts as no JSON."""

_HALF = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
"""The first half of a pair without the second, or the second without the first."""
_BACKSLASH = b"\\\\"
_NO_ESCAPE = b"\0\0"
"""Stands for an escaped backslash, after which `ud83d` is text. No JSON has such bytes."""

T = TypeVar("T")
Data = msgspec.Raw | bytes | bytearray | str


def lenient(decode: Callable[[Data], T]) -> Callable[[Data], T]:
    """Return the decoder that reads half of a surrogate pair as U+FFFD. Other JSON costs it nothing."""

    def read(data: Data) -> T:
        try:
            return decode(data)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            text = data.encode() if isinstance(data, str) else bytes(data)
            whole = _with_whole_characters(text)
            if whole == text:
                raise
        return decode(whole)

    return read


def _with_whole_characters(text: bytes) -> bytes:
    if _NO_ESCAPE[:1] in text:
        return text
    escapes = text.replace(_BACKSLASH, _NO_ESCAPE)
    return _HALF.sub(rb"\\ufffd", escapes, MAX_CUTS).replace(_NO_ESCAPE, _BACKSLASH)
