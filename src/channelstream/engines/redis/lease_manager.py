"""Keeps a node alive in one shard: reconnects after an outage, renews its lease, and reaps dead nodes.

A lease is a key with an expiry that only its node renews. When it has expired, the other nodes treat the node as dead:
they unregister its connections, each once, and its users leave. They cannot know whether it is. So the rules are:

- **Death can be wrong.** A node that lives after all (it was stopped, or Redis was) learns from its next heartbeat that
  its lease had lapsed, and registers its connections again. A connection that another node has claimed meanwhile is
  not taken back: the claim was published to this node, and if its link was broken then, `Registrar.owns` is false
  until the directory has answered.
- **Two observations.** A node is reaped when two heartbeats in a row, at least a third of a lease apart, have found it
  dead. After an outage of Redis all leases have expired, and the nodes come back within a second or so: with one
  observation the first of them would reap all others. The price is one third of a lease more for each real death.
- **Nothing delays a heartbeat.** It has its own task, is never refused for too many calls, and does not wait for the
  one before. A node that is busy registering a million connections again must not die of it. At most three heartbeats
  wait, since each renews the lease at the moment Redis runs it.
- **Reaping is repeatable.** The script checks the lease again in each step, so a node that comes back is left alone, and
  two nodes may reap the same one: each step takes connections that are still registered.
"""

import asyncio
import logging
import random
from collections.abc import Coroutine, Iterable
from functools import partial
from typing import Any

from channelstream.core.node_status import NodeStatus
from channelstream.engines.redis.link_state import OUT_OF_REACH
from channelstream.engines.redis.periodic import failure_reason
from channelstream.engines.redis.reconciler import Reconciler
from channelstream.engines.redis.registrar import Registrar
from channelstream.engines.redis.restoring import Restoring
from channelstream.engines.redis.shard import Shard
from channelstream.engines.redis.slot_move import SLOT_MOVED

HEARTBEATS_PER_LEASE = 3
"""Heartbeats in the time of a lease: two may fail before it ends."""
MAX_HEARTBEATS = HEARTBEATS_PER_LEASE
"""Heartbeats that may wait for their answers; while so many wait no further one is sent."""
REAP_AT_ONCE = 100
"""Connections, and channels of theirs, released in one step of the script; Redis serves other callers in between."""
RETRY_MIN_S, RETRY_MAX_S = 0.05, 1.0
"""Pauses before a node tries to reconnect, in seconds: doubled each time, with jitter."""

logger = logging.getLogger(__name__)


class LeaseManager:
    """The tasks of one shard. None waits for another, so that nothing delays the heartbeats."""

    def __init__(self, registrar: Registrar, restoring: Restoring, shard: Shard, lease_s: float) -> None:
        self._registrar = registrar
        self._restoring = restoring
        self._shard = shard
        self._lease_s = lease_s
        self._reconciler = Reconciler(registrar.ownership, restoring, shard, lease_s)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._heartbeats: set[asyncio.Task[Any]] = set()
        self._seen_dead: dict[str, float] = {}
        self._dead: set[str] = set()
        self._found_dead = asyncio.Event()

    def start(self, after_gap: bool = False) -> None:
        """Start the tasks.

        Args:
            after_gap: the node was without a link, as after an outage.
        """
        if after_gap:
            self._reconciler.on_reconnect()
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
            if await self._shard.link.wait_broken() == SLOT_MOVED:
                logger.info("%s has moved to another master", self._shard.label)
            else:
                logger.warning(
                    "%s is out of reach: calls that need it are answered 503, open streams stay open",
                    self._shard.label,
                )
            self._seen_dead.clear()
            await self._reconnect()
            logger.info("%s is reachable again", self._shard.label)

    async def _reconnect(self) -> None:
        """Reconnect, however often it fails; a reason other than silence is logged once, since it may need an operator."""
        delay_s, logged = RETRY_MIN_S, OUT_OF_REACH
        # While the link was down a claim by another node was not received.
        await self._restoring.suspect(self._shard)
        while (failure := await failure_reason(self._establish)) is not None:
            if failure not in (logged, OUT_OF_REACH):
                logger.warning("%s", failure)
                logged = failure
            # All nodes lose Redis at the same moment; jitter spreads their return.
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            delay_s = min(2 * delay_s, RETRY_MAX_S)

    async def _establish(self) -> None:
        if self._shard.is_linked:  # The link was established, and the first heartbeat failed.
            await self._shard.link.unlink()
            await self._restoring.suspect(self._shard)
        await self._shard.establish()
        await self._heartbeat()
        self._reconciler.on_reconnect()

    # -- the lease

    async def _send_heartbeats(self) -> None:
        """Send heartbeats at a fixed pace, whatever becomes of earlier ones."""
        while True:
            self._start_heartbeat()
            await asyncio.sleep(self._lease_s / HEARTBEATS_PER_LEASE)

    def _start_heartbeat(self) -> None:
        if len(self._heartbeats) < MAX_HEARTBEATS:
            heartbeat = self._run(failure_reason(self._heartbeat))
            self._heartbeats.add(heartbeat)
            heartbeat.add_done_callback(self._heartbeats.discard)

    async def _heartbeat(self) -> None:
        """Renew the lease, and act on the answer: how many connections are registered, and which nodes are dead."""
        began_s = asyncio.get_running_loop().time()
        count, dead, lapsed = await self._shard.client.heartbeat(
            lease_ms=self._lease_s * 1000,
            label=self._registrar.label,
            connections=len(self._registrar.ownership.local()),
        )
        self._reconciler.on_heartbeat(count, bool(lapsed))
        self._record_dead((node.decode() for node in dead), began_s)

    def _record_dead(self, nodes: Iterable[str], now_s: float) -> None:
        """Schedule the reaping of nodes that two heartbeats in a row have found dead.

        `_seen_dead` is cleared when the link breaks, so the first heartbeat after an outage is never the second one.
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
        if await self._shard.client.was_stopped(node):
            logger.info("node %s has left: its connections that have not come back are unregistered", node)
        else:
            logger.warning("node %s is dead: its connections are unregistered", node)
        left: Any = 1
        while isinstance(left, int) and left:
            left = await self._shard.client.call("reap", dead=node, count=REAP_AT_ONCE)
        # Every shard lists all nodes: the first one reports their end, to the one node that has finished the reaping.
        if left and self._shard.index == 0:
            label, released, beat_ms, connections, stopped = left
            dead = NodeStatus(
                node,
                label.decode(),
                int(connections),
                int(beat_ms) / 1000,
                is_alive=False,
                was_stopped=stopped == b"1",
            )
            self._registrar.receiver.node_died(dead, int(released) if self._registrar.has_one_shard else None)
