"""A fair lock for each key: operations on one connection id run one after the other, in the order of their requests.

Invariant: between a check ("this id is free", "this connection is here") and the act that follows it, nothing else
changes the connection, however many times the operation awaits its engine in between. Without the lock, a
`/disconnect` could run inside a `/subscribe` that waits for the engine, and leave a member that belongs to no
connection.

An `asyncio.Lock` for each connection would cost memory for every idle one, and has no place for an id that is not
known yet. Here a key exists only while it is locked, and a free key is locked without a future. `release` passes a
key on to the next waiter without freeing it in between, so that no newcomer overtakes.
"""

import asyncio
from collections import deque


class Locks:
    """Locks by key; a key that is free is not stored."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]] | None] = {}

    def __len__(self) -> int:
        """Return how many keys are locked."""
        return len(self._waiting)

    def of(self, key: str) -> "Lock":
        """Return a lock to use with `async with`, or by `acquire` and `release`."""
        return Lock(self._waiting, key)

    def try_acquire(self, key: str) -> "Lock | None":
        """Lock a key that is free, until `release`; None where it is locked."""
        if key in self._waiting:
            return None
        self._waiting[key] = None
        return Lock(self._waiting, key)


class Lock:
    """One acquisition of one key."""

    __slots__ = ("_key", "_waiting")

    def __init__(self, waiting: "dict[str, deque[asyncio.Future[None]] | None]", key: str) -> None:
        self._waiting = waiting
        self._key = key

    async def acquire(self) -> None:
        """Wait until everyone who asked before has released the key, then lock it."""
        if self._key not in self._waiting:
            self._waiting[self._key] = None
            return
        queue = self._waiting[self._key]
        if queue is None:
            queue = self._waiting[self._key] = deque()
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            # `release` may have passed the key on in the loop turn of the cancellation: no one else would release it.
            if not waiter.cancelled():
                self.release()
            raise

    __aenter__ = acquire

    async def __aexit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Pass the key on to the first waiter that is not cancelled, or free it."""
        queue = self._waiting[self._key]
        while queue:
            waiter = queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        del self._waiting[self._key]
