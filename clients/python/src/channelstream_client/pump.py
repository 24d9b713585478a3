"""`Pump`: the task that does the steps of a `ResumingClient` and puts the received events into an inbox.

The pump continues to read while the application handles an event, so that pings are answered and the server does not
close the stream. When the inbox is full, the pump pauses for `PATIENCE_S`, then discards new events. When the inbox is
empty again, it reopens the stream from the position of the last event that it kept. So memory is bounded, and the
server replays the discarded events.
"""

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Generic, TypeVar, cast

from channelstream_client.errors import StreamClosed
from channelstream_client.inbox import Inbox
from channelstream_client.model import Connection
from channelstream_client.protocol import Item, RenewalFailed, StreamEnded, items_of, position_of
from channelstream_client.reach import Reach
from channelstream_client.resuming import (
    Down,
    OpenStream,
    RenewConnection,
    ResumingClient,
    Step,
    Stop,
    Wait,
)
from channelstream_client.streams import Stream

PATIENCE_S = 0.5
"""How long a full inbox may pause reading: shorter than any server waits for a pong."""

Renewed = Awaitable[str | Connection]
Renew = Callable[[], Renewed] | Callable[[str], Renewed]
"""Returns a new connection, or its id. A function with an argument receives the last position."""

E = TypeVar("E")
logger = logging.getLogger("channelstream_client")


class Pump(Generic[E]):
    """Reads the streams of one connection, one after the other."""

    def __init__(
        self,
        client: ResumingClient[Stream],
        reach: Reach,
        inbox: Inbox[E],
        read: Callable[[Item], E],
        renew: Renew | None,
        on_down: Callable[[Down], object] | None,
        renew_timeout_s: float,
        control: Callable[[Item], bool] = lambda _: False,
    ) -> None:
        """Create it without opening a stream.

        Args:
            read: converts an item to an event.
            renew: returns a new connection when the server does not know the old one.
            on_down: called at the end of each stream that will be retried.
            renew_timeout_s: how long `renew` may take.
            control: takes an item that is no event, and returns whether it was one.
        """
        self._client = client
        self._control = control
        self._reach = reach
        self._inbox = inbox
        self._read = read
        self._renew = renew
        self._on_down = on_down
        self._renew_timeout_s = renew_timeout_s
        self._drops = False
        self._limit: asyncio.Timeout | None = None

    async def run(self) -> None:
        """Read until the connection ends. The inbox then holds the error, if there is one."""
        try:
            while await self._do(self._client.next_step(time.monotonic())):
                pass
        except Exception as error:
            self._inbox.close(error)
        finally:
            self._inbox.close()
            await self._reach.close()

    def drained(self) -> None:
        """React to an empty inbox: if events were discarded, reopen the stream to receive them again."""
        if self._drops and self._limit is None:  # No poll is under way.
            self._drops = False
            self._client.left(time.monotonic(), to_upgrade=False)
        elif self._drops:
            self._leave_in(0.0)

    def renew(self) -> None:
        """Open another stream, with a new connection."""
        self._client.conn_id = ""
        self._leave_in(0.0)

    def _leave_in(self, wait_s: float) -> None:
        """Let the present stream time out after `wait_s`, so that another one is opened."""
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time() + wait_s)

    async def _do(self, step: Step[Stream]) -> bool:
        """Do one step. Return False after the last one."""
        match step:
            case OpenStream():
                await self._read_stream(step)
            case RenewConnection():
                await self._renew_connection(step)
            case Wait():
                self._report(step)
                await asyncio.sleep(step.wait_s)
            case Stop():
                if step.error is not None:
                    raise step.error
                return False
        return True

    # -- streams

    async def _read_stream(self, opening: OpenStream[Stream]) -> None:
        """Read one stream until it ends, or until `_leave_in` lets it time out."""
        client = self._client
        stream = cast(AsyncGenerator[str | bytes, None], opening.transport(opening, self._reach))
        try:
            async with asyncio.timeout(None) as self._limit, aclosing(stream):
                self._leave_when_due()
                async for text in stream:
                    await self._receive(text)
                    if not client.is_reading:
                        return
            client.answered(time.monotonic())
        except StreamEnded as end:
            client.ended(end, time.monotonic())
        except TimeoutError:
            client.left(time.monotonic(), to_upgrade=not self._drops)
        finally:
            self._limit = None
            self._drops = self._drops and client.is_polling
            if self._drops and self._inbox.is_empty:
                self.drained()  # The reader took the last event as this poll ended: its time was not yet over.

    def _leave_when_due(self) -> None:
        if self._client.leave_at is not None:
            self._leave_in(self._client.leave_at - time.monotonic())

    async def _receive(self, text: str | bytes) -> None:
        failures = self._client.failures
        items = self._client.received(items_of(text), time.monotonic(), keep=not self._drops)
        events = [(self._read(item), position_of(item)) for item in items if not self._control(item)]
        self._inbox.put(events, len(text))
        if failures and not self._client.failures:
            logger.info("stream from %s is open after %d failed attempts", self._client.url, failures)
        if not self._drops:
            self._leave_when_due()
            if self._inbox.is_full and self._client.is_reading:
                await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._inbox.wait_for_room()
        except TimeoutError:
            self._drops = self._inbox.is_full  # The reader may have emptied it in the same turn of the loop.

    # -- between streams

    async def _renew_connection(self, step: RenewConnection) -> None:
        """Get a new connection from the application. If it fails, it is asked again later.

        Raises:
            StreamClosed: the application raised it, to end listening.
        """
        assert self._renew is not None  # noqa: S101 - the client knows that there is one
        try:
            async with asyncio.timeout(self._renew_timeout_s):
                conn_id, position = conn_id_of(await _call_renew(self._renew, step.position))
        except StreamClosed:
            raise
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) and task.cancelling():
                raise
            self._renewal_failed("was cancelled from within", error)
        except Exception as error:
            self._renewal_failed(f"failed: {str(error) or type(error).__name__}", error)
        else:
            self._client.renewed(conn_id, position)

    def _renewal_failed(self, fault: str, error: BaseException) -> None:
        asked = "get_token" if self._client.uses_tokens else "renew"
        failure = RenewalFailed(f"{asked} {fault}")
        failure.__cause__ = error
        self._client.ended(failure, time.monotonic())

    def _report(self, wait: Wait) -> None:
        down = wait.down
        if down is None:
            return
        logger.warning(
            "no stream from %s: %s; attempt %d, next in %.2f s",
            self._client.url,
            down.reason,
            down.attempt,
            down.retry_s,
        )
        if self._on_down:
            try:
                self._on_down(down)
            except Exception:
                logger.exception("on_down failed")


def conn_id_of(given: object) -> tuple[str, str]:
    """Return the connection id, or token, that an application gave, and the position.

    Raises:
        TypeError: it gave none. The next stream would fail, and without a token the client would ask again at once.
    """
    if isinstance(given, Connection):
        return given.conn_id, given.position
    if isinstance(given, str) and given:
        return given, ""
    raise TypeError(f"it returned {'an empty text' if given == '' else type(given).__name__}")


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
