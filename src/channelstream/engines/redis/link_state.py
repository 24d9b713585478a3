"""Whether a link is broken and why, and what fails then."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

import msgspec

from channelstream.engines.redis.slot_move import SLOT_MOVED, SlotMoving
from channelstream.errors import Unavailable

OUT_OF_REACH = "Redis is out of reach; try again later."
LINK_BROKE = "The connection with Redis broke; try again."
NOT_REDIS = (
    "the server at its address is not Redis, or another program changes its data; check the option engine"
)
UNREADABLE = (AttributeError, IndexError, KeyError, TypeError, ValueError, msgspec.MsgspecError)
"""Errors that reading an answer or message raises when it is not in a form of ours."""
MIN_TIMEOUT_SHARE = 0.5
"""The share of the timeout that a call must have had left when it was sent, for its silence to break the link.

A call of several steps has one deadline, so its last step may have had a few milliseconds: that proves nothing.
"""

logger = logging.getLogger(__name__)


class LinkState:
    """The state that both connections of a link share.

    Attributes:
        broken: set when the link cannot be used any more.
        reason: why it is broken; empty before.
        timeout_s: how long an answer may take before the link counts as broken.
    """

    def __init__(self, timeout_s: float) -> None:
        self.broken = asyncio.Event()
        self.reason = ""
        self.timeout_s = timeout_s
        self._waiting: set[asyncio.Future[Any]] = set()

    @property
    def deadline_s(self) -> float:
        """The deadline of a call that begins now, by the clock of the loop."""
        return asyncio.get_running_loop().time() + self.timeout_s

    def abandon(self, reason: str) -> None:
        """Break the link: nothing more is sent, and whatever waits for a message fails."""
        if not self.broken.is_set():
            self.reason = reason
            logger.warning("the connection with Redis is given up: %s", reason)
        self.mark_broken()

    def mark_broken(self) -> None:
        self.broken.set()
        for each in list(self._waiting):
            self.fail(each)

    def fail_when_broken(self, waiting: "asyncio.Future[Any]") -> None:
        self._waiting.add(waiting)
        waiting.add_done_callback(self._waiting.discard)

    def fail(self, waiting: "asyncio.Future[Any]") -> None:
        if not waiting.done():
            waiting.set_exception(self._error(LINK_BROKE))

    def check(self) -> None:
        """Raise Unavailable if the link is broken."""
        if self.broken.is_set():
            raise self._error(OUT_OF_REACH)

    def _error(self, message: str) -> Unavailable:
        return SlotMoving(message) if self.reason == SLOT_MOVED else Unavailable(message)

    async def before_deadline(self, answer: Awaitable[Any], until_s: float) -> Any:
        had_s = until_s - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(until_s):
                return await answer
        except TimeoutError:
            if had_s >= MIN_TIMEOUT_SHARE * self.timeout_s:
                self.abandon(f"no answer within {had_s:.3g} s")
            raise Unavailable("Redis does not answer; try again later.") from None
        finally:
            del answer
