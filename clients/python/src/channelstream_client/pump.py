"""`Pump`: the task that keeps a stream open and puts its events into an inbox.

The pump continues to read while the application handles an event, so that pings are answered and the server does not
close the stream. When the inbox is full, the pump pauses for `PATIENCE_S`, then discards new events. When the inbox is
empty again, it reopens the stream from the position of the last event that it kept. So memory is bounded, and the
server replays the discarded events.
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
"""How long a full inbox may pause reading: shorter than any server waits for a pong."""

Renewed = Awaitable[str | Connection]
Renew = Callable[[], Renewed] | Callable[[str], Renewed]
"""Returns a new connection, or its id. A function with an argument receives the last position."""

logger = logging.getLogger("channelstream_client")


@dataclass(frozen=True, slots=True, kw_only=True)
class Down:
    """A stream has ended, or did not open, and will be retried.

    Attributes:
        reason: the cause.
        code: the close code; 1006 if the server sent none.
        attempt: number of failures in a row, including this one; 1 is the end of a stream that was open.
        retry_s: time until the next attempt, in seconds.
        error: the exception of the transport or of `renew`.
    """

    reason: str
    code: int
    attempt: int
    retry_s: float
    error: BaseException | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The options of a `Listening`.

    Attributes:
        renew: returns a new connection when the server does not know the old one.
        on_down: called at the end of each stream that will be retried.
        attempts: failures in a row after which listening fails; None means no limit.
        give_up_after_s: time without a stream after which listening fails; None means no limit.
        silence_s: how long a stream may receive no bytes.
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
        position: position of the last event that was put into the inbox.
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
        """Read until the connection ends. The inbox then holds the error, if there is one."""
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
        """React to an empty inbox: if events were discarded, reopen the stream to receive them again."""
        if self._drops:
            self._reopen_in(0.0)

    def _reopen_in(self, wait_s: float) -> None:
        """Let the present stream time out after `wait_s`, so that another one is opened."""
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time() + wait_s)

    async def _read_and_wait(self) -> bool:
        """Read one stream to its end and wait until the next is due. Return False if there is no next one."""
        try:
            await self._renew()
            await self._read_stream()
        except StreamEnded as end:
            if end.code == NORMAL:
                return False
            await self._wait_to_reconnect(end)
        return True

    async def _renew(self) -> None:
        """Get a new connection from the application, if the server does not know the old one.

        Raises:
            RenewalFailed: the application failed to return one; it is asked again later.
            StreamClosed: the application raised it, to end listening.
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
        """Read one stream until it ends, or until `_reopen_in` lets it time out."""
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
        if not items or not _is_closing(items[0]):  # A stream that only sends its close code has not opened.
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
        """Return the event of an item. None: a `resumed` item that a further poll of the same stream repeats."""
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
            self._drops = self._inbox.is_full  # The reader may have emptied it in the same turn of the loop.

    async def _wait_to_reconnect(self, end: StreamEnded) -> None:
        """Wait until the next stream is due.

        Raises:
            StreamClosed: the server's close code says not to reconnect.
            Unreachable: `attempts` or `give_up_after_s` is reached.
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
        """Return the seconds left of `give_up_after_s`; None means no limit."""
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
    """Call `renew`, with the position if it takes an argument."""
    if takes_an_argument(renew):
        return await cast(Callable[[str], Renewed], renew)(position)
    return await cast(Callable[[], Renewed], renew)()


def takes_an_argument(function: Callable[..., object]) -> bool:
    """Return whether a call without arguments would fail."""
    try:
        inspect.signature(function).bind()
    except TypeError:
        return True
    except ValueError:  # It has no inspectable signature.
        return False
    return False
