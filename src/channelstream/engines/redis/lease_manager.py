"""What keeps a node alive in a shard: it links anew after an outage, renews its lease and removes dead nodes.

A node that has not renewed its lease in time is dead to the others: its connections are counted out, each once, its users
part. Where it lives after all - Redis or the node itself stood still - it finds out and counts its connections anew.
"""

import asyncio
import logging
import random
from collections.abc import Coroutine, Iterable
from functools import partial
from typing import Any

from channelstream.engines.redis.connections import Connections
from channelstream.engines.redis.link import OUT_OF_REACH
from channelstream.engines.redis.reconciler import Reconciler
from channelstream.engines.redis.shard import Shard, failure_reason

HEARTBEATS_PER_LEASE = 3
MAX_HEARTBEATS = HEARTBEATS_PER_LEASE
"""Beats that wait for their answers. While so many do none is added, as each renews the lease when Redis comes to it."""
REAP_AT_ONCE = 100
"""Connections and channels of theirs counted out in one step of the script, so that Redis serves others in between."""
RETRY_MIN_S, RETRY_MAX_S = 0.05, 1.0

logger = logging.getLogger(__name__)


class LeaseManager:
    """The tasks beside a shard. None waits for another, so that nothing delays the beats."""

    def __init__(self, connections: Connections, shard: Shard, lease_s: float) -> None:
        self._connections = connections
        self._shard = shard
        self._lease_s = lease_s
        self._reconciler = Reconciler(connections, shard, lease_s)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._heartbeats: set[asyncio.Task[Any]] = set()
        self._seen_dead: dict[str, float] = {}
        self._dead: set[str] = set()
        self._found_dead = asyncio.Event()

    def start(self) -> None:
        for work in (
            self._keep_linked(),
            self._send_heartbeats(),
            self._reconciler.run(),
            self._reap_dead(),
        ):
            self._run(work)

    def _run(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- the link

    async def _keep_linked(self) -> None:
        while True:
            await self._shard.wait_broken()
            logger.warning(
                "%s is out of reach: calls that need it are answered 503, streams stay open",
                self._shard.label,
            )
            self._seen_dead.clear()
            await self._reconnect()
            logger.info("%s is within reach again", self._shard.label)

    async def _reconnect(self) -> None:
        """Try until it works; a reason other than silence is logged once, as it may need somebody to act."""
        delay_s, logged = RETRY_MIN_S, OUT_OF_REACH
        await self._connections.suspect(self._shard)
        while (failure := await failure_reason(self._establish)) is not None:
            if failure not in (logged, OUT_OF_REACH):
                logger.warning("%s", failure)
                logged = failure
            # All nodes lose Redis at once; they need not come back at once.
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311
            delay_s = min(2 * delay_s, RETRY_MAX_S)

    async def _establish(self) -> None:
        if self._shard.is_linked:  # And could not be beaten over.
            await self._shard.unlink()
            await self._connections.suspect(self._shard)
        await self._shard.establish()
        await self._heartbeat()
        self._reconciler.on_reconnect()

    # -- the lease

    async def _send_heartbeats(self) -> None:
        """Beat at its pace, whatever becomes of the beats before."""
        while True:
            self._start_heartbeat()
            await asyncio.sleep(self._lease_s / HEARTBEATS_PER_LEASE)

    def _start_heartbeat(self) -> None:
        if len(self._heartbeats) < MAX_HEARTBEATS:
            heartbeat = self._run(failure_reason(self._heartbeat))
            self._heartbeats.add(heartbeat)
            heartbeat.add_done_callback(self._heartbeats.discard)

    async def _heartbeat(self) -> None:
        """Renew the lease, and hand on what the shard says: how many it counts, and which nodes are dead."""
        connections = self._connections
        began_s = asyncio.get_running_loop().time()
        count, dead, lapsed = await self._shard.heartbeat(
            lease_ms=self._lease_s * 1000,
            label=connections.label,
            connections=len(connections.receiver.local_connections()),
        )
        self._reconciler.on_heartbeat(count, bool(lapsed))
        self._record_dead((node.decode() for node in dead), began_s)

    def _record_dead(self, nodes: Iterable[str], now_s: float) -> None:
        """Remove the nodes that two beats in a row have found dead.

        After an outage all come back, not in the same moment; and the first beat then is not one of those in a row.
        """
        self._seen_dead = {node: self._seen_dead.get(node, now_s) for node in nodes}
        pause_s = self._lease_s / HEARTBEATS_PER_LEASE
        self._dead |= {node for node, seen_s in self._seen_dead.items() if now_s - seen_s >= pause_s}
        if self._dead:
            self._found_dead.set()

    async def _reap_dead(self) -> None:
        while True:
            await self._found_dead.wait()
            self._found_dead.clear()
            while self._dead:
                await failure_reason(partial(self._reap, self._dead.pop()))

    async def _reap(self, node: str) -> None:
        logger.warning("node %s is gone: its connections are counted out", node)
        left = 1
        while left:
            left = await self._shard.call("reap", dead=node, count=REAP_AT_ONCE)
