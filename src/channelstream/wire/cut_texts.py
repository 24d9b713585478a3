r"""Texts of clients that were cut inside a character.

`JSON.stringify` writes half of a surrogate pair, as a cut through an emoji leaves it, as `\ud83d`. msgspec takes that for no
JSON; here it counts as U+FFFD, as in a payload of the API (docs/api.md).
"""

import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

MAX_CUTS = 100
"""Most halves of pairs in a text; with more it counts as no JSON. Without a bound 128 KiB of them, which a client may send,
would take 15 ms (measured)."""

_UP_TO_CUT = re.compile(
    rb"(?:[^\\]++|\\[^u]|\\u(?![dD][89a-fA-F])|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F])*+"
    rb"(?=\\u[dD][89a-fA-F][0-9a-fA-F]{2})",
    re.DOTALL,
)
_ESCAPE_BYTES = 6

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
    parts: list[bytes] = []
    at = 0
    for _ in range(MAX_CUTS):
        found = _UP_TO_CUT.match(text, at)
        if found is None:
            break
        parts += (found[0], rb"\ufffd")
        at = found.end() + _ESCAPE_BYTES
    return b"".join([*parts, text[at:]])
