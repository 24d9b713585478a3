"""The link of one node with one shard: the present one, and how calls learn that the slot of the shard moves.

The link is replaced after each outage (`shard_recovery.py`). While the slot moves, calls wait (`slot_move.py`).
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from typing import Any

from redis.exceptions import MovedError, ResponseError

from channelstream.engines.redis.address import ShardAddress
from channelstream.engines.redis.link import Link
from channelstream.engines.redis.link_state import OUT_OF_REACH
from channelstream.engines.redis.shard_state import ShardState
from channelstream.engines.redis.slot_move import MOVING, PROBE_S, SLOT_MOVED, SlotMove, SlotMoving
from channelstream.errors import Unavailable

logger = logging.getLogger(__name__)


class ShardLink:
    """Has the link that there is at the moment, if there is one.

    Attributes:
        present: calls are made over it; None while the shard is out of reach.
        move: whether the slot of the shard moves, and what waits for the end of that.
    """

    def __init__(self, address: ShardAddress, state: ShardState) -> None:
        self.present: Link | None = None
        self.move = SlotMove()
        self._address = address
        self._state = state
        self._draining: set[Link] = set()
        self._is_there = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_linked(self) -> bool:
        return self.present is not None and not self.present.broken.is_set()

    @property
    def is_reachable(self) -> bool:
        """Whether calls are sent, or wait for the end of a slot move."""
        return self.is_linked or self.move.is_going_on

    def linked(self) -> Link:
        """Return the link.

        Raises:
            Unavailable: there is none.
        """
        if self.present is None:
            raise Unavailable(OUT_OF_REACH)
        if self.present.reason == SLOT_MOVED:
            self.move.begin()
        return self.present

    async def wait_linked(self) -> None:
        """Wait until calls can be made."""
        await self._is_there.wait()

    def use(self, link: Link) -> None:
        """Make calls over a link from now on."""
        self.present = link
        self._is_there.set()
        self.move.end()

    def note_failure(self, error: BaseException) -> None:
        """Record that a new link could not be established: calls wait only if the slot is moving."""
        if isinstance(error, (*MOVING, SlotMoving)):
            self.move.begin()
        else:
            self.move.end()

    # -- the end of a link

    def abandon(self, reason: str) -> None:
        """Break the link, if there is one."""
        if self.present is not None:
            self.present.abandon(reason)

    async def wait_broken(self) -> str:
        """Return when the link is broken, after unlinking, with the reason."""
        if self.present is None:
            return OUT_OF_REACH
        link = self.present
        await link.broken.wait()
        if link.reason == SLOT_MOVED:
            self.move.begin()
        await self.unlink()
        return link.reason

    async def unlink(self) -> None:
        """Drop the link: none of its messages is delivered any more, but calls that were sent may still be answered."""
        link, self.present = self.present, None
        self._is_there.clear()
        if link is not None:
            self._draining.add(link)  # Before the await: if this is cancelled, `close` still finds the link.
            await link.stop_listening()
            self.run(self._drain(link))

    async def _drain(self, link: Link) -> None:
        await link.drain()
        self._draining.discard(link)

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for link in (*self._draining, *([self.present] if self.present else ())):
            await link.close()

    # -- its use

    async def unsubscribe(self, names: Iterable[str]) -> None:
        """Unsubscribe, if there is a link."""
        if self.present is not None:
            await self.present.subscription.unsubscribe(names)

    def note_move(self, link: Link, error: ResponseError) -> None:
        """Let calls wait for the end of a move by which a call was refused, unless the shard has another link already."""
        if link is not self.present:
            return
        if isinstance(error, MovedError):
            self.move.begin()
            link.abandon(SLOT_MOVED)
        elif not self.move.is_going_on:
            logger.warning("%s: its slot is being moved to another master; calls wait", self._state.label)
            self.move.begin()
            self.run(self._await_move(link))

    async def _await_move(self, link: Link) -> None:
        """Ask Redis whether the move has ended, until it has or the link is broken."""
        while self.move.is_going_on and not link.broken.is_set():
            await asyncio.sleep(PROBE_S)
            try:
                await link.command("EXISTS", self._address.prefix)
                self.move.end()  # It was given up.
            except MovedError:
                link.abandon(SLOT_MOVED)
            except (ResponseError, Unavailable) as error:
                logger.debug("%s: the move has not ended: %s", self._state.label, error)

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something until the link is closed for good."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
