"""Requests, as their handlers read them."""

import asyncio
from typing import ClassVar

from channelstream.core.http_head import read_head
from channelstream.core.policy import Policy
from channelstream.http.request import Part, Request

PARTS = 4


class Noted(bytes):
    """A part of a body that notes its end."""

    ended: ClassVar[list[int]] = []

    def __del__(self) -> None:
        self.ended.append(len(self))


class InParts:
    """A body that arrives in parts: each one when the reader has left the one before."""

    def __init__(self) -> None:
        self._received = 0

    async def receive(self) -> Part | None:
        await asyncio.sleep(0)
        assert len(Noted.ended) == self._received
        self._received += 1
        return Noted(b"part"), self._received < PARTS

    def take_whole(self) -> None:
        return None

    def line(self) -> None:
        return None


def test_a_part_of_a_body_is_kept_once_while_the_next_one_is_awaited() -> None:
    """A part may be as long as a whole body: kept twice, bodies would take twice the memory that they may have."""
    head = read_head(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    Noted.ended.clear()
    assert asyncio.run(Request(head, InParts(), Policy()).read(100)) == b"part" * PARTS
