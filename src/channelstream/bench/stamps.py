"""The content of a benchmark message: publisher, channel, number and time."""

import random
import re
from typing import NamedTuple

_STAMP = re.compile(rb"@(\d+):(\d+):(\d+):(\d+)@")
_POSITION = re.compile(rb'"position":"[\w.]+-([\d.]+)"')
_WORDS = re.findall(
    r"\w+",
    "order invoice customer pending shipped paid total item price stock ticket reply today meeting status update channel "
    "server latency report draft review build failed passed warning green amber red",
)
"""Words for text that compresses about as well as that of applications. A repeated letter would compress too well."""


class Stamp(NamedTuple):
    """The stamp of a message. The numbers of one publisher in one channel begin at 0 and have no gaps."""

    publisher: int
    channel: int
    number: int
    sent_ns: int


def payload(stamp: Stamp, text: str) -> bytes:
    """Return the JSON of a message. Its time is that of CLOCK_MONOTONIC, which all processes of a machine share."""
    return b'{"stamp":"@%d:%d:%d:%d@","text":"%b"}' % (*stamp, text.encode("ascii"))


def stamps_in(data: bytes) -> list[Stamp]:
    """Return the stamps in received bytes, in order. The bytes around them are ignored."""
    return [Stamp(*map(int, found)) for found in _STAMP.findall(data)]


def positions_in(data: bytes) -> list[int]:
    """Return the offsets of the positions in received bytes, in order; none for a server without positions.

    For several shards it is the sum of their offsets. It grows as well, because each event raises the offset of one shard.
    """
    return [sum(map(int, found.split(b"."))) for found in _POSITION.findall(data)]


def text_of(length: int, seed: int) -> str:
    """Return words of `length` characters in total, the same for the same seed."""
    source = random.Random(seed)  # noqa: S311 - filler, hides nothing
    words: list[str] = []
    size = 0
    while size < length:
        words.append(source.choice(_WORDS))
        size += len(words[-1]) + 1
    return " ".join(words)[:length]
