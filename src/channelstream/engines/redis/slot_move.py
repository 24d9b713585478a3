"""What a node does while the slot of a shard moves to another master of a Redis cluster.

- **No script runs during a move.** A script computes its keys, and while the keys are divided between two masters neither
  could run it whole. The only declared key is one that never exists, so Redis refuses every script (ASK) before it has done
  anything, from the first step of the move to the last.
- **No declared key may exist.** Redis checks the declared keys before a script, and each other key when the script comes to
  it. At the old master it refuses a key that is not there, also one that never existed, such as that of a new channel. A
  script that was admitted because its declared key exists would be stopped there, after its first writes, and Redis undoes
  none. To declare all keys is no way out: which ones a script touches is known only after it has read some of them.
- **ASK is not followed.** With ASKING the new master runs a script, but a key that has not moved yet looks as if it never
  existed. The script would create it again, and then Redis refuses to move the real one (BUSYKEY). Nor could a subscription
  follow: the protocol allows no ASKING on a connection that has subscribed. `tests/engines/redis/test_slot_move.py` proves
  this and the rule before with a cluster.
- **Servers that move a slot at once** (Valkey 9 and newer, `CLUSTER MIGRATESLOTS`) need none of this: the old master runs
  scripts until the new one has all keys, and then answers MOVED.
- **Calls wait.** A refused call has done nothing, so it is made again when the move has ended, at the master that has the
  slot then, until its deadline. One task per shard asks Redis whether the move has ended; the other calls wait for it.
- **The log goes on.** The link with the old master is broken, and the new one begins as after any outage: with what was
  published meanwhile. If the data came from a master that has given its slot away, no new epoch begins
  (`hello` in `lua/64_node_operations.lua`).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.exceptions import AskError, MovedError, TryAgainError

from channelstream.errors import Unavailable

MOVING = (AskError, MovedError, TryAgainError)
"""Errors by which a member of a cluster refuses a command whose slot moves or has moved: it has done nothing."""
SLOT_MOVED = "its slot has moved to another master"
"""Why a link is broken whose master no longer has the slot."""
PROBE_S = 0.05
"""The pause between two questions whether the move has ended, in seconds."""
MAX_WAITING = 10_000
MAX_WAITING_BYTES = 64 << 20
"""Calls, and their bytes, that may wait for the end of a move; more are refused."""

T = TypeVar("T")


class SlotMoving(Unavailable):
    """The slot moves: the call has done nothing, or may be repeated."""


class SlotMove:
    """Whether the slot of one shard moves now, and the calls that wait for the end of the move."""

    def __init__(self) -> None:
        self._ended: asyncio.Event | None = None
        self._waiting = 0
        self._waiting_bytes = 0

    @property
    def is_going_on(self) -> bool:
        return self._ended is not None

    def begin(self) -> None:
        self._ended = self._ended or asyncio.Event()

    def end(self) -> None:
        """Let the waiting calls go on, in the order in which they were made."""
        if self._ended is not None:
            self._ended.set()
            self._ended = None

    async def outlast(self, work: Callable[[], Awaitable[T]], until_s: float, size: Callable[[], int]) -> T:
        """Run work, again each time it was refused because the slot moves.

        Args:
            until_s: the deadline, by the clock of the loop.
            size: returns the bytes of the call; it is called if the call has to wait.

        Raises:
            SlotMoving: the move has not ended before the deadline.
        """
        while True:
            await self._wait_ended(until_s, size)
            try:
                return await work()
            except SlotMoving:
                if asyncio.get_running_loop().time() >= until_s:
                    raise

    async def _wait_ended(self, until_s: float, size_of: Callable[[], int]) -> None:
        if self._ended is None:
            return
        size = size_of()
        if self._waiting >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES:
            raise SlotMoving("Too much waits for Redis; try again later.")
        self._waiting += 1
        self._waiting_bytes += size
        try:
            async with asyncio.timeout_at(until_s):
                await self._ended.wait()
        except TimeoutError:
            raise SlotMoving("A slot of the Redis cluster is being moved; try again later.") from None
        finally:
            self._waiting -= 1
            self._waiting_bytes -= size
