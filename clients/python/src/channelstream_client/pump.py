"""`Pump`: the task that keeps a stream open and puts what arrives into an inbox.

It reads on while the application handles an event, so that pings are answered and the connection stays. When the
inbox is full it stops reading for a moment, then drops what arrives; once the inbox is empty it reads the stream
anew from the last event in it. So memory is bounded, and what was dropped comes again.
"""

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import cast

from channelstream_client.errors import CLOSINGS, StreamClosed, Unreachable
from channelstream_client.events import Event, Resumed, read_event
from channelstream_client.inbox import Inbox
from channelstream_client.log_filter import without_id
from channelstream_client.model import Connection
from channelstream_client.reach import Reach
from channelstream_client.reconnect import ReconnectPolicy, RenewalFailed
from channelstream_client.streams import (
    NORMAL,
    OPEN_TIMEOUT_S,
    SILENCE_S,
    UNKNOWN_CONNECTION,
    Item,
    Stream,
    StreamEnded,
    StreamTarget,
    closing_of,
    items_of,
)

PATIENCE_S = 0.5
"""How long a full inbox may keep the stream from being read: below what any server waits for a pong."""

Renewed = Awaitable[str | Connection]
Renew = Callable[[], Renewed] | Callable[[str], Renewed]
"""Gives a new connection; one that takes an argument is given the last position."""

logger = logging.getLogger("channelstream_client")


@dataclass(frozen=True, slots=True, kw_only=True)
class Down:
    """A stream has ended, or did not open, and will be tried again.

    Attributes:
        reason: what was wrong.
        code: the close code; 1006 where the server said nothing.
        attempt: how many there were in a row, with this one; 1 is the end of a stream that was open.
        retry_s: when the next one begins, in seconds.
        error: what the transport, or `renew`, raised.
    """

    reason: str
    code: int
    attempt: int
    retry_s: float
    error: BaseException | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a `Listening` was asked for.

    Attributes:
        renew: gives a new connection when the server has forgotten the old one.
        on_down: called at the end of each stream that will be tried again.
        attempts: failed ones in a row after which it gives up; None means never.
        give_up_after_s: how long it tries without a stream; None means for ever.
        silence_s: how long a stream may receive nothing at all.
    """

    renew: Renew | None = None
    on_down: Callable[[Down], object] | None = None
    attempts: int | None = None
    give_up_after_s: float | None = None
    silence_s: float = SILENCE_S


class Pump:
    """Reads the streams of one connection, one after the other.

    Attributes:
        conn_id: the connection; `renew` changes it.
        position: of the last event put into the inbox.
    """

    def __init__(
        self,
        target: StreamTarget,
        inbox: Inbox,
        rules: Rules,
        transports: Sequence[Stream],
        jitter: Callable[[], float],
    ) -> None:
        self.conn_id = target.conn_id
        self.position = target.position
        self._url = target.url
        self._reach: Reach = target.reach
        self._inbox = inbox
        self._rules = rules
        self._transports = transports
        self._policy = ReconnectPolicy(len(transports), jitter, time.monotonic())
        self._is_forgotten = False
        self._drops = False
        self._reported_loss: object = None
        self._limit: asyncio.Timeout | None = None

    async def run(self) -> None:
        """Read until the connection is ended; what it ends with is left in the inbox."""
        self._policy.down_since = time.monotonic()
        try:
            while await self._read_and_wait():
                pass
        except Exception as error:
            self._inbox.close(error)
        finally:
            self._inbox.close()
            await self._reach.close()

    def drained(self) -> None:
        """The inbox is empty: read what was dropped anew."""
        if self._drops:
            self._reopen_in(0.0)

    def _reopen_in(self, wait_s: float) -> None:
        """Let the stream end by itself, for another one."""
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time() + wait_s)

    async def _read_and_wait(self) -> bool:
        """Read one stream to its end and wait for the next; False where there is to be none."""
        try:
            await self._renew()
            await self._read_stream()
        except StreamEnded as end:
            if end.code == NORMAL:
                return False
            await self._wait_to_reconnect(end)
        return True

    async def _renew(self) -> None:
        """Get a new connection from the application, if the server has forgotten the old one.

        Raises:
            RenewalFailed: it gives none now.
            StreamClosed: by the application, which gives none at all.
        """
        renew = self._rules.renew
        if not self._is_forgotten or renew is None:
            return
        try:
            async with asyncio.timeout(self._rules.silence_s):
                given = await _call_renew(renew, self.position)
        except StreamClosed:
            raise
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) and task.cancelling():
                raise
            raise RenewalFailed("renew was cancelled from within") from error
        except Exception as error:
            raise RenewalFailed(f"renew failed: {error or type(error).__name__}") from error
        self.conn_id = given.conn_id if isinstance(given, Connection) else given
        self.position = self.position or (given.position if isinstance(given, Connection) else "")
        self._is_forgotten = False

    async def _read_stream(self) -> None:
        """Read one stream until it ends, or until another is to be opened at once."""
        target = self._target()
        stream = cast(AsyncGenerator[str | bytes, None], self._transports[self._policy.level](target))
        self._drops, self._reported_loss = False, None
        try:
            async with asyncio.timeout(None) as self._limit, aclosing(stream):
                async for text in stream:
                    await self._receive(text, target)
        except TimeoutError:
            (self._policy.reopen if self._drops else self._policy.upgrade)(time.monotonic())
        finally:
            self._limit = None

    def _target(self) -> StreamTarget:
        left_s = self._left_s()
        return StreamTarget(
            self._url,
            self.conn_id,
            self.position,
            self._reach,
            OPEN_TIMEOUT_S if left_s is None else max(0.001, min(OPEN_TIMEOUT_S, left_s)),
            self._rules.silence_s,
        )

    async def _receive(self, text: str | bytes, target: StreamTarget) -> None:
        items = items_of(text)
        if not items or not _is_closing(items[0]):  # A stream that only says why it ends has not opened.
            self._on_open()
        self._put(items, len(text), target)
        if end := closing_of(items):
            raise end
        if self._inbox.is_full and not self._drops:
            await self._wait_for_room()

    def _on_open(self) -> None:
        if failures := self._policy.failures:
            logger.info("stream from %s is open after %d failed attempts", self._url, failures)
        upgrade_s = self._policy.received(time.monotonic())
        if upgrade_s is not None:
            self._reopen_in(upgrade_s)

    def _put(self, items: Sequence[Item], size_bytes: int, target: StreamTarget) -> None:
        events = [event for item in items if not _is_closing(item) and (event := self._event(item))]
        target.position = next(
            (event.position for event in reversed(events) if event.position), target.position
        )
        if not self._drops:
            self.position = target.position
            self._inbox.put(events, size_bytes)

    def _event(self, item: Item) -> Event | None:
        """The event of an item; None for what polls say again: that they resume, and what is lost."""
        event = read_event(item)
        if isinstance(event, Resumed):
            loss = (event.position, *event.lost) if event.lost else ()
            known, self._reported_loss = self._reported_loss, loss
            return None if known is not None and (loss == known or not loss) else event
        return event

    async def _wait_for_room(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._inbox.wait_for_room()
        except TimeoutError:
            self._drops = self._inbox.is_full  # The reader may have taken all in the same moment.

    async def _wait_to_reconnect(self, end: StreamEnded) -> None:
        """Wait until the next stream is due.

        Raises:
            StreamClosed: there is to be none.
            Unreachable: it has been tried for long enough.
        """
        wait_s = self._policy.ended(end, time.monotonic())
        if wait_s is None or (end.code == UNKNOWN_CONNECTION and self._rules.renew is None):
            raise CLOSINGS.get(end.code, StreamClosed)(end.code, end.reason) from end
        self._is_forgotten = self._is_forgotten or end.code == UNKNOWN_CONNECTION
        self._check_limits(end)
        left_s = self._left_s()
        wait_s = wait_s if left_s is None else min(wait_s, left_s)
        self._report_down(end, wait_s)
        await asyncio.sleep(wait_s)

    def _left_s(self) -> float | None:
        """Seconds until it gives up; None means that it does not."""
        if self._rules.give_up_after_s is None or self._policy.down_since is None:
            return None
        return max(0.0, self._policy.down_since + self._rules.give_up_after_s - time.monotonic())

    def _check_limits(self, end: StreamEnded) -> None:
        most = self._rules.attempts
        if self._left_s() == 0.0 or (most is not None and self._policy.failures >= most):
            attempts = self._policy.failures
            raise Unreachable(
                f"{self._url}: no stream after {attempts} attempts: {without_id(str(end))}"
            ) from end

    def _report_down(self, end: StreamEnded, wait_s: float) -> None:
        reason, attempt = without_id(str(end)), self._policy.failures
        logger.warning(
            "no stream from %s: %s; attempt %d, next in %.2f s", self._url, reason, attempt, wait_s
        )
        if self._rules.on_down:
            down = Down(reason=reason, code=end.code, attempt=attempt, retry_s=wait_s, error=end.__cause__)
            try:
                self._rules.on_down(down)
            except Exception:
                logger.exception("on_down failed")


def _is_closing(item: object) -> bool:
    return isinstance(item, dict) and item.get("type") == "closing"


async def _call_renew(renew: Renew, position: str) -> str | Connection:
    """What the application gives; the position goes to who takes it."""
    if takes_an_argument(renew):
        return await cast(Callable[[str], Renewed], renew)(position)
    return await cast(Callable[[], Renewed], renew)()


def takes_an_argument(function: Callable[..., object]) -> bool:
    """Whether a call without arguments would fail."""
    try:
        inspect.signature(function).bind()
    except TypeError:
        return True
    except ValueError:  # It has no signature.
        return False
    return False
