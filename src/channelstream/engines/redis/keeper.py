"""What keeps a node alive among the others: it links anew after an outage, renews its lease and buries the dead.

A node that has not renewed its lease in time is dead to the others: its connections are counted out, each once, its users
part. Where it lives after all - Redis or the node itself stood still - it finds out and counts its connections anew.
"""

import asyncio
import logging
import random
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from channelstream.errors import Unavailable

if TYPE_CHECKING:
    from channelstream.engines.redis.engine import RedisEngine

BEATS_PER_LEASE = 3
REAP_AT_ONCE = 50
"""Connections counted out in one step of the script, so that Redis serves others in between."""
RESTORE_AT_ONCE = 200
RETRY_MIN_S, RETRY_MAX_S = 0.05, 1.0

logger = logging.getLogger(__name__)


class Keeper:
    """The two tasks beside a Redis engine."""

    def __init__(self, engine: "RedisEngine", lease_s: float) -> None:
        self._engine = engine
        self._lease_s = lease_s
        self._tasks: list[asyncio.Task[None]] = []
        self._seen_dead: set[str] = set()
        self._astray: set[str] = set()

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
            await self._engine.broken()
            logger.warning("Redis is out of reach: calls are answered 503, streams stay open")
            self._seen_dead.clear()
            await self._link_again()
            logger.info("Redis is within reach again")

    async def _link_again(self) -> None:
        delay_s = RETRY_MIN_S
        while True:
            if await _quietly(self._establish()):
                return
            # All nodes lose Redis at once; they need not come back at once.
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311
            delay_s = min(2 * delay_s, RETRY_MAX_S)

    async def _establish(self) -> None:
        await self._engine.establish()
        await self._beat(settled=True)

    # -- the lease

    async def _beat_on(self) -> None:
        while True:
            await _quietly(self._beat(settled=False))
            await asyncio.sleep(self._lease_s / BEATS_PER_LEASE)

    async def _beat(self, settled: bool) -> None:
        """Renew the lease, compare what is counted with what is held, and bury whom two beats in a row found dead.

        Args:
            settled: nothing is in flight, so that every difference counts at once.
        """
        engine = self._engine
        count, dead = await engine.call("beat", node=engine.node, lease_ms=self._lease_s * 1000)
        if settled or count != len(engine.held()) or self._astray:
            await self._reconcile(settled)
        found = {node.decode() for node in dead}
        for node in found & self._seen_dead:
            await self._reap(node)
        self._seen_dead = found

    async def _reap(self, node: str) -> None:
        logger.warning("node %s is gone: its connections are counted out", node)
        left = 1
        while left:
            left = await self._engine.call("reap", dead=node, count=REAP_AT_ONCE)

    async def _reconcile(self, settled: bool) -> None:
        """Count held connections that are not counted, and out those that are not held - at the second time, since
        the first may only show a connection that is just coming or going."""
        engine = self._engine
        registered, held = await engine.registered(), engine.held()
        astray = registered ^ held
        certain = astray if settled else astray & self._astray
        self._astray = astray - certain
        missing = sorted(certain & held)
        for start in range(0, len(missing), RESTORE_AT_ONCE):
            await asyncio.gather(*map(engine.restore, missing[start : start + RESTORE_AT_ONCE]))
        for conn_id in certain - held:
            await engine.call("disconnect", conn_id=conn_id, node=engine.node)


async def _quietly(work: Coroutine[Any, Any, None]) -> bool:
    """Do it, and say whether that worked."""
    try:
        await work
    except Unavailable as error:
        logger.debug("no beat: %s", error)
        return False
    except Exception:
        # Whatever went wrong once, a node without link or beats would be dead to the others.
        logger.exception("a beat failed")
        return False
    return True
