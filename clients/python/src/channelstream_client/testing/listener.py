"""A subscriber that receives the events of a connection in the background and keeps them."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar, overload

from channelstream_client.client import Channelstream
from channelstream_client.errors import ChannelstreamError
from channelstream_client.events import Event, MessageEvent, Resumed
from channelstream_client.listening import Listening
from channelstream_client.model import Message
from channelstream_client.reach import Reach, tls_context
from channelstream_client.testing.line import Line

TIMEOUT_S = 5.0
"""Default time that a listener waits for an event."""
MARKER = "channelstream-client: everything before this has arrived"
"""Payload of the private messages that `catch_up` sends."""
SHARE = 0.02
"""Jitter of a listener's reconnects: they wait 60 ms after a restart, 0.6 s at most."""
SHOWN_EVENTS = 20
"""Most events that a failure lists: the last ones."""

E = TypeVar("E")


class NotHeard(AssertionError):
    """An expected event did not arrive. The text lists the events that did."""


class Listener:
    """Receives the events of one connection and keeps them in order of arrival.

    Attributes:
        user: the user of the connection.
        conn_id: the id of the connection.
    """

    def __init__(self, client: Channelstream, user: str, conn_id: str, line: Line, since: str) -> None:
        self.user = user
        self.conn_id = conn_id
        self._client = client
        self._line = line
        self._since = since
        self._received: list[Event] = []
        self._taken: set[int] = set()
        self._ended = ""
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def position(self) -> str:
        """Position of the last event so far."""
        with self._changed:
            return self._received[-1].position if self._received else self._since

    @property
    def events(self) -> Sequence[Event]:
        """All events so far, including those that `wait_for` returned, without the markers of `catch_up`."""
        with self._changed:
            return [event for event in self._received if not _is_marker(event)]

    @overload
    def wait_for(
        self,
        kind: type[E],
        where: Callable[[E], bool] | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        **fields: Any,
    ) -> E: ...
    @overload
    def wait_for(
        self,
        kind: None = None,
        where: Callable[[Any], bool] | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        **fields: Any,
    ) -> Event: ...
    def wait_for(
        self,
        kind: type[Any] | None = None,
        where: Callable[[Any], bool] | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        **fields: Any,
    ) -> Any:
        """Return the first matching event that was not returned before. Other events remain for later calls.

        Args:
            kind: class of the event, for example `MessageEvent`; None matches any class.
            where: returns whether an event of that class matches.
            timeout_s: how long to wait, in seconds.
            fields: values of fields of the event, for example `channel="news"`.

        Raises:
            NotHeard: no such event arrived in time, or the stream ended. The text lists the received events.
        """

        def matches(event: Any) -> bool:
            if kind is not None and not isinstance(event, kind):
                return False
            equal = all(getattr(event, name, None) == value for name, value in fields.items())
            return equal and (where is None or where(event))

        description = ", ".join(
            [kind.__name__ if kind else "any event", *(f"{key}={value!r}" for key, value in fields.items())]
        )
        return self._wait(matches, description, timeout_s)

    def catch_up(self, *, timeout_s: float = TIMEOUT_S) -> Sequence[Event]:
        """Wait until all events published before this call have arrived, and return all events.

        With it a test can assert that an event was *not* received. The call sends a private message to the user as a
        marker; all connections of the user receive it.

        Raises:
            NotHeard: the marker did not arrive in time.
        """
        message = Message(user=self.user, message=MARKER, pm_users=[self.user], no_history=True)
        self._client.publish(message)
        self._wait(
            lambda event: isinstance(event, MessageEvent) and event.uuid == message.uuid,
            "the marker of catch_up",
            timeout_s,
        )
        return self.events

    def drop(self) -> None:
        """Cut the network connection. The client's reconnects fail until `restore`."""
        self._line.cut()

    def restore(self, *, timeout_s: float = TIMEOUT_S) -> Resumed:
        """Restore the network connection and wait until the client has resumed. Return the `Resumed`."""
        with self._changed:
            self._taken |= {
                number for number, event in enumerate(self._received) if isinstance(event, Resumed)
            }
        self._line.mend()
        return self.wait_for(Resumed, timeout_s=timeout_s)

    def stall(self) -> None:
        """Stop reading until `flow`, as a slow consumer does."""
        self._line.stall()

    def flow(self) -> None:
        """Continue to read."""
        self._line.flow()

    def close(self) -> None:
        """Stop listening. The server keeps the connection for the detach grace period."""
        with suppress(RuntimeError):  # The loop is already closed: the stream has ended.
            self._loop.call_soon_threadsafe(self._cancel)
        self._thread.join()
        self._line.close()

    def _cancel(self) -> None:
        if self._task:
            self._task.cancel()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._read_stream())
            except asyncio.CancelledError:
                self._end("closed")

    async def _read_stream(self) -> None:
        self._task = asyncio.current_task()
        try:
            url = self._line.url
            reach = Reach(lambda: tls_context(url, False), trust_env=False)
            listening = Listening(url, self.conn_id, since=self._since, reach=reach, jitter=lambda: SHARE)
            async with listening as events:
                async for event in events:
                    self._add(event)
            self._end("the server ended it with 1000")
        except ChannelstreamError as error:
            self._end(f"{type(error).__name__}: {error}")

    def _add(self, event: Event) -> None:
        with self._changed:
            self._received.append(event)
            self._changed.notify_all()

    def _end(self, reason: str) -> None:
        with self._changed:
            self._ended = reason
            self._changed.notify_all()

    def _wait(self, matches: Callable[[Event], bool], description: str, timeout_s: float) -> Event:
        until = time.monotonic() + timeout_s
        with self._changed:
            while (number := self._find(matches)) is None:
                left_s = until - time.monotonic()
                if self._ended or left_s <= 0:
                    raise NotHeard(self._failure(description, timeout_s))
                self._changed.wait(left_s)
            self._taken.add(number)
            return self._received[number]

    def _find(self, matches: Callable[[Event], bool]) -> int | None:
        for number, event in enumerate(self._received):
            if number not in self._taken and matches(event):
                return number
        return None

    def _failure(self, description: str, timeout_s: float) -> str:
        why = f"the stream ended ({self._ended})" if self._ended else f"not within {timeout_s:g} s"
        shown = [(number, event) for number, event in enumerate(self._received) if not _is_marker(event)]
        lines = [f"{self.user} did not receive {description}: {why}. Received:"]
        if len(shown) > SHOWN_EVENTS:
            lines.append(f"  ... {len(shown) - SHOWN_EVENTS} earlier ones")
        for number, event in shown[-SHOWN_EVENTS:]:
            lines.append(f"  {event}{' (returned before)' if number in self._taken else ''}")
        return "\n".join(lines if shown else [*lines, "  nothing"])


def _is_marker(event: Event) -> bool:
    return isinstance(event, MessageEvent) and event.message == MARKER
