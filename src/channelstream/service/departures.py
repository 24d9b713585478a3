"""Connections that leave this node: those whose deadline is over, and those that end soon; many at a time.

Invariant: an operation on a connection is not interrupted. The node forgets a connection under the lock of its id, at
once or, if an operation is in progress, after it; the lock is held until the engine has unregistered the connection
(`disconnect_queue.py`).
"""

import asyncio
from collections.abc import Callable

from channelstream.close_codes import CloseCode
from channelstream.core.connection import Connection, ConnectionState
from channelstream.core.deadlines import SLOT_S, Deadlines
from channelstream.engines.base import Clock
from channelstream.engines.members import Leaving, member_of
from channelstream.service.disconnect_queue import DisconnectQueue
from channelstream.service.locks import Lock, Locks
from channelstream.slices import Slices

Forget = Callable[[Connection, CloseCode, str], list[str]]
"""Removes a connection from this node, for a reason, and returns its channels."""


class Departures:
    """The deadlines of connections without a stream, and the ends of connections.

    Attributes:
        deadlines: when each of these connections ends, in the engine's clock.
        disconnects: unregisters the connections that have ended.
    """

    def __init__(self, disconnects: DisconnectQueue, clock: Clock, locks: Locks, forget: Forget) -> None:
        self.deadlines: Deadlines[Connection] = Deadlines()
        self.disconnects = disconnects
        self._clock = clock
        self._locks = locks
        self._forget = forget
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def is_settled(self) -> bool:
        """Whether no connection is ending."""
        return not (self._ending or self.disconnects.is_running)

    def expire_at(self, connection: Connection, deadline_s: float) -> None:
        """End a connection at a time in the engine's clock, unless a stream attaches before."""
        connection.deadline_s = deadline_s
        self.deadlines.set(connection, deadline_s)

    def extend(self, connection: Connection, seconds: float) -> None:
        """Let a connection live for so many seconds from now; never shorten its life."""
        self.expire_at(connection, max(connection.deadline_s or 0.0, self._clock.steady() + seconds))

    def _is_overdue(self, connection: Connection) -> bool:
        # As exact as the table of deadlines, which ends a slot as a whole.
        return connection.deadline_s is not None and connection.deadline_s <= self._clock.steady() + SLOT_S

    async def sweep(self) -> None:
        """End the connections whose deadline is over. It acquires their locks itself."""
        slices = Slices(self._clock.steady)
        tasks: list[asyncio.Task[None]] = []
        while (connection := self.deadlines.due(self._clock.steady())) is not None:
            task = self.end_soon(connection, CloseCode.UNKNOWN_CONNECTION, "expired", self._is_overdue)
            tasks += [] if task is None else [task]
            await slices.due()
        await asyncio.gather(*tasks)
        await self.disconnects.drained()

    def end_soon(
        self,
        connection: Connection,
        code: CloseCode,
        reason: str,
        is_due: Callable[[Connection], bool] = lambda _: True,
    ) -> asyncio.Task[None] | None:
        """End a connection of this node in a batch with others that end now. It acquires the lock itself.

        The node forgets it at once; if its lock is held, the returned task does so afterwards.

        Args:
            is_due: checked once the lock is acquired: a stream may have attached meanwhile.
        """
        lock = self._locks.try_acquire(connection.id)
        if lock is not None:
            self._leave(connection, lock, code, reason)
            return None
        task = asyncio.get_running_loop().create_task(self._end_later(connection, code, reason, is_due))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task

    async def _end_later(
        self, connection: Connection, code: CloseCode, reason: str, is_due: Callable[[Connection], bool]
    ) -> None:
        lock = self._locks.of(connection.id)
        await lock.acquire()
        if is_due(connection):
            self._leave(connection, lock, code, reason)
        else:
            lock.release()

    def _leave(self, connection: Connection, lock: Lock, code: CloseCode, reason: str) -> None:
        """Forget a connection, and hold its lock until the engine has unregistered it."""
        if connection.state is ConnectionState.CLOSED:
            lock.release()
            return
        try:
            channels = self._forget(connection, code, reason)
        except BaseException:
            lock.release()
            raise
        self.disconnects.add(Leaving(member_of(connection), channels), lock)
