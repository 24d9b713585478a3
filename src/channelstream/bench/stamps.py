"""What a benchmark's message carries: who sent it, its number, and when."""

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
"""Text that compresses about as well as what applications send; a run of one letter would flatter deflate."""


class Stamp(NamedTuple):
    """One message as its receiver sees it; numbers of one publisher in one channel begin at 0 and have no gap."""

    publisher: int
    channel: int
    number: int
    sent_ns: int


def payload(stamp: Stamp, text: str) -> bytes:
    """The JSON of a message; its time is that of CLOCK_MONOTONIC, which all processes of a machine share."""
    return b'{"stamp":"@%d:%d:%d:%d@","text":"%b"}' % (*stamp, text.encode("ascii"))


def stamps_in(data: bytes) -> list[Stamp]:
    """The stamps in what a client received, in order; whatever stands around them is the server's business."""
    return [Stamp(*map(int, found)) for found in _STAMP.findall(data)]


def positions_in(data: bytes) -> list[int]:
    """How far the positions go in what a client received, in order; a server without them has none.

    Of a position of several shards that is the sum of their numbers: each event is one of one shard, so it grows as well.
    """
    return [sum(map(int, found.split(b"."))) for found in _POSITION.findall(data)]


def text_of(length: int, seed: int) -> str:
    """Words of `length` characters in all, the same for the same seed."""
    source = random.Random(seed)  # noqa: S311 - filler, hides nothing
    words: list[str] = []
    size = 0
    while size < length:
        words.append(source.choice(_WORDS))
        size += len(words[-1]) + 1
    return " ".join(words)[:length]
