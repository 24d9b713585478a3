"""A line between server and client that a script can slow down, stop and cut at any byte."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from tests.simulation.failure import Failure

Items = list[dict[str, Any]]


class Line(asyncio.Transport):
    """A socket's stand-in: bytes of the server wait in `unread` until the client takes them."""

    def __init__(self, high: int, pauses_late: bool) -> None:
        super().__init__()
        self.unread = bytearray()
        self.protocol: Any = None
        self.on_lost: Callable[[], None] = lambda: None
        self.on_write: Callable[[bytes], None] = lambda data: None
        self._high = high
        self._late = pauses_late
        self._paused = self._closing = self._lost = False

    # -- what the server does

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = self._high if high is None else high

    def get_write_buffer_size(self) -> int:
        return len(self.unread)

    def is_closing(self) -> bool:
        return self._closing

    def write(self, data: Any) -> None:
        if self._lost:
            raise RuntimeError("the socket is lost")  # As uvloop does.
        if self._closing:
            return
        self.unread += data
        self.on_write(bytes(data))
        if self._late:
            asyncio.get_running_loop().call_soon(self._pause_if_full)
        else:
            self._pause_if_full()

    def _pause_if_full(self) -> None:
        if len(self.unread) > self._high and not self._paused and not self._lost:
            self._paused = True
            self.protocol.pause_writing()

    def close(self) -> None:
        self._closing = True
        if not self.unread:
            asyncio.get_running_loop().call_soon(self._lose)

    def abort(self) -> None:
        self._closing = True
        self.unread.clear()
        asyncio.get_running_loop().call_soon(self._lose)

    def _lose(self) -> None:
        if not self._lost:
            self._lost = True
            self.protocol.connection_lost(None)
            self.on_lost()

    # -- what the client does

    def take(self, count: int) -> bytes:
        """Return the next bytes that came."""
        data = bytes(self.unread[:count])
        del self.unread[:count]
        if self._paused and len(self.unread) <= self._high // 4 and not self._lost:
            self._paused = False
            self.protocol.resume_writing()
        if self._closing and not self.unread:
            asyncio.get_running_loop().call_soon(self._lose)
        return data


def _items(text: bytes | str) -> Items:
    try:
        items: Items = json.loads(text)
    except ValueError:
        raise Failure(f"a list that is not JSON: {text!r}") from None
    return items


class FrameParser:
    """Reads a server's WebSocket frames (RFC 6455, 5.2) on its own, not with the product's reader."""

    def __init__(self) -> None:
        self._held = b""
        self.close_code: int | None = None

    def feed(self, data: bytes) -> list[Items]:
        """Return the lists of items that are whole by now."""
        self._held += data
        found = []
        while (payload := self._frame()) is not None:
            opcode, body = payload
            if opcode == 1:
                found.append(_items(body))
            elif opcode == 8:
                self.close_code = int.from_bytes(body[:2], "big")
        return found

    def _frame(self) -> tuple[int, bytes] | None:
        held = self._held
        if len(held) < 2:
            return None
        extra = {126: 2, 127: 8}.get(held[1], 0)
        if len(held) < 2 + extra:
            return None
        size = int.from_bytes(held[2 : 2 + extra], "big") if extra else held[1]
        end = 2 + extra + size
        if len(held) < end:
            return None
        self._held = held[end:]
        return held[0] & 15, held[2 + extra : end]


class BlockParser:
    """Reads an event stream (HTML Living Standard, 9.2.6).

    Args:
        answers: there are blocks besides those of events, without an id.
    """

    def __init__(self, answers: bool = False) -> None:
        self._held = b""
        self._answers = answers
        self.close_code: int | None = None

    def feed(self, data: bytes) -> list[Items]:
        """Return the lists of items that are whole by now."""
        *blocks, self._held = (self._held + data).split(b"\n\n")
        return [self._block(block.decode()) for block in blocks]

    def _block(self, block: str) -> Items:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        items = _items(fields["data"])
        if items and items[-1]["type"] == "closing":
            self.close_code = items[-1]["code"]
        elif (
            items and not (self._answers and "id" not in fields) and fields.get("id") != items[-1]["position"]
        ):
            raise AssertionError(f"the block's id is not its last position: {block}")
        return items
