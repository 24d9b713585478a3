"""What keeps a node alive in a shard: it links anew after an outage, renews its lease and buries the dead.

A node that has not renewed its lease in time is dead to the others: its connections are counted out, each once, its users
part. Where it lives after all - Redis or the node itself stood still - it finds out and counts its connections anew.
"""

import asyncio
import logging
import random
from collections.abc import Coroutine
from typing import Any

from channelstream.engines.redis.connections import Connections
from channelstream.engines.redis.link import OUT_OF_REACH
from channelstream.engines.redis.shard import Shard
from channelstream.errors import Unavailable

BEATS_PER_LEASE = 3
REAP_AT_ONCE = 100
"""Connections and channels of theirs counted out in one step of the script, so that Redis serves others in between."""
RESTORE_AT_ONCE = 200
RETRY_MIN_S, RETRY_MAX_S = 0.05, 1.0
DOUBT_MIN_S = 0.2
"""The first pause after a beat that could not set everything right; each that follows is twice as long."""

logger = logging.getLogger(__name__)


class Keeper:
    """The two tasks beside a shard."""

    def __init__(self, connections: Connections, shard: Shard, lease_s: float) -> None:
        self._connections = connections
        self._shard = shard
        self._lease_s = lease_s
        self._tasks: list[asyncio.Task[None]] = []
        self._seen_dead: dict[str, float] = {}
        self._astray: dict[str, float] = {}

    def start(self) -> None:
        for work in (self._stay_linked(), self._beat_on()):
            self._tasks.append(asyncio.get_running_loop().create_task(work))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- the link

    async def _stay_linked(self) -> None:
        while True:
            await self._shard.broken()
            logger.warning(
                "%s is out of reach: calls that need it are answered 503, streams stay open",
                self._shard.label,
            )
            self._seen_dead.clear()
            await self._link_again()
            logger.info("%s is within reach again", self._shard.label)
            await self._settle_doubts()

    async def _link_again(self) -> None:
        """Try until it works; a reason other than silence is logged once, as it may need somebody to act."""
        delay_s, logged = RETRY_MIN_S, OUT_OF_REACH
        while (failure := await _failure_of(self._establish())) is not None:
            if failure not in (logged, OUT_OF_REACH):
                logger.warning("%s", failure)
                logged = failure
            # All nodes lose Redis at once; they need not come back at once.
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311
            delay_s = min(2 * delay_s, RETRY_MAX_S)

    async def _establish(self) -> None:
        self._connections.linked_again(self._shard)
        await self._shard.establish()
        await self._beat(settled=True)

    async def _settle_doubts(self) -> None:
        """Set right soon what could not be while other shards were being linked again, too."""
        pause_s = DOUBT_MIN_S
        while self._shard.doubtful and self._shard.is_linked and pause_s < self._lease_s:
            await asyncio.sleep(pause_s)
            await _failure_of(self._beat(settled=False))
            pause_s *= 2

    # -- the lease

    async def _beat_on(self) -> None:
        while True:
            await _failure_of(self._beat(settled=False))
            await asyncio.sleep(self._lease_s / BEATS_PER_LEASE)

    async def _beat(self, settled: bool) -> None:
        """Renew the lease, compare what is counted with what is held, and bury whom two beats in a row found dead.

        Args:
            settled: nothing is in flight, so that every difference counts at once.
        """
        us = self._connections
        began_s = asyncio.get_running_loop().time()
        count, dead, lapsed = await self._shard.call(
            "beat",
            node=us.node,
            lease_ms=self._lease_s * 1000,
            label=us.label,
            connections=len(us.receiver.held()),
        )
        await us.tell_states(self._shard)
        is_astray = count != us.held_count(self._shard) or self._astray or self._shard.doubtful
        if settled or lapsed or is_astray:
            await self._reconcile(settled or bool(lapsed))
        # After an outage all come back, not in the same moment; and the first beat then is not one of those in a row.
        found = {name: self._seen_dead.get(name, began_s) for name in (node.decode() for node in dead)}
        for node, seen_s in found.items():
            if began_s - seen_s >= self._lease_s / BEATS_PER_LEASE:
                await self._reap(node)
        self._seen_dead = found

    async def _reap(self, node: str) -> None:
        logger.warning("node %s is gone: its connections are counted out", node)
        left = 1
        while left:
            left = await self._shard.call("reap", dead=node, count=REAP_AT_ONCE)

    async def _reconcile(self, settled: bool) -> None:
        """Count held connections that are not counted, and out those that are not held.

        Only after a whole lease, since a difference may only show a connection that is just coming, going, or on its way to
        another node.
        """
        shard, connections = self._shard, self._connections
        counted = await shard.registered()
        connections.confirm(counted, shard)
        held = connections.held_in(shard)
        now_s = asyncio.get_running_loop().time()
        since_s = {conn_id: self._astray.get(conn_id, now_s) for conn_id in counted ^ held}
        certain = {
            conn_id for conn_id, seen_s in since_s.items() if settled or now_s - seen_s >= self._lease_s
        }
        self._astray = {conn_id: seen_s for conn_id, seen_s in since_s.items() if conn_id not in certain}
        shard.doubtful -= {conn_id for conn_id in shard.doubtful if not connections.is_ours(conn_id)}
        ours = connections.receiver.held()
        # What is counted of a connection that should not be counted here is set right as well.
        missing = sorted(conn_id for conn_id in certain | shard.doubtful if conn_id in ours)
        for start in range(0, len(missing), RESTORE_AT_ONCE):
            await asyncio.gather(*map(self._restore, missing[start : start + RESTORE_AT_ONCE]))
        for conn_id in certain:
            if not connections.is_ours(conn_id):
                await shard.call("disconnect", conn_id=conn_id, node=connections.node)

    async def _restore(self, conn_id: str) -> None:
        """Count a connection as it is; a later beat does it where that needs a shard which is out of reach."""
        doubtful = self._shard.doubtful
        doubtful.discard(conn_id)
        try:
            await self._connections.restore(conn_id, self._shard)
        except BaseException as error:
            doubtful.add(conn_id)
            if not isinstance(error, Unavailable):
                raise


async def _failure_of(work: Coroutine[Any, Any, None]) -> str | None:
    """Do it, and return why it could not be done; None: it is done."""
    try:
        await work
    except Unavailable as error:
        logger.debug("no beat: %s", error)
        return error.message
    except Exception as error:
        # Whatever went wrong once, a node without link or beats would be dead to the others.
        logger.exception("a beat failed")
        return str(error)
    return None
