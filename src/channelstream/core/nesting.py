"""How deep arrays and objects of JSON are in each other, found without a step for each bracket."""

from itertools import accumulate

_NOT_OPENING = bytes(set(range(256)) - set(b"[{"))
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_AS_ARRAYS = bytes.maketrans(b"{}", b"[]")
_STEPS = {ord("["): 1, ord("]"): -1}
_PASSES = 8
"""Levels of nesting removed from inside by `replace`, which is faster than following each bracket; few texts have more."""


def nests_deeper(data: bytes, most: int) -> bool:
    """Return whether valid JSON nests deeper than `most` levels, at least 8.

    Few texts have enough brackets to need the exact count.
    """
    if len(data) <= most or len(data.translate(None, _NOT_OPENING)) <= most:
        return False
    brackets = without_strings(data).translate(_AS_ARRAYS, _NOT_BRACKETS)
    for _ in range(_PASSES):
        brackets = brackets.replace(b"[]", b"")
    left = most - _PASSES
    return len(brackets) > left and any(
        depth > left for depth in accumulate(map(_STEPS.__getitem__, brackets))
    )


def without_strings(data: bytes) -> bytes:
    """Return what valid JSON has outside of its strings."""
    # Without escapes, splitting at quotes gives the text outside of strings at even indexes.
    pieces = data.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')
    return b"".join(pieces[::2])
