"""What makes a shard count exactly the connections that this node holds.

Mostly it does. After an outage, or after a call of which nobody knows the outcome, connections are counted anew or out, some
at a time: with a million of them that takes minutes, in which the lease is renewed as always (`keeper.py`).
"""

import asyncio
from collections.abc import Iterable, Sequence
from itertools import islice

from channelstream.engines.redis.connections import Connections
from channelstream.engines.redis.link import OUT_OF_REACH
from channelstream.engines.redis.shard import Shard, failure_reason
from channelstream.errors import Unavailable

RESTORE_AT_ONCE = 200
"""Connections set right side by side."""
RETRY_MIN_S = 0.2
"""The first pause after an outage when not everything could be set right; each that follows is twice as long."""


class Reconciler:
    """Compares what one shard counts for this node with what this node holds, one comparison after the other."""

    def __init__(self, connections: Connections, shard: Shard, lease_s: float) -> None:
        self._connections = connections
        self._shard = shard
        self._lease_s = lease_s
        self._due = asyncio.Event()
        self._count = 0
        self._compare_everything = False
        self._retry_s = lease_s
        self._differences: dict[str, float] = {}

    def on_reconnect(self) -> None:
        """Compare everything: the shard was out of reach, so that every difference counts at once."""
        self._retry_s = RETRY_MIN_S
        self._compare_everything = True
        self._due.set()

    def on_heartbeat(self, count: int, lapsed: bool) -> None:
        """Take what a beat has found.

        Args:
            count: how many connections the shard counts for this node.
            lapsed: whether the lease had ended, so that others may have removed any of them.
        """
        shard = self._shard
        self._count = count
        self._compare_everything = self._compare_everything or lapsed
        matches = self._connections.count_matches(shard, count)
        if (
            self._compare_everything
            or not matches
            or self._differences
            or shard.unconfirmed
            or shard.pending_state
        ):
            self._due.set()

    async def run(self) -> None:
        """Compare whenever it is due."""
        while True:
            await self._due.wait()
            self._due.clear()
            await failure_reason(self._check)
            self._schedule_retry()

    def _schedule_retry(self) -> None:
        """Set right soon what could not be while other shards were being linked again, too."""
        if self._shard.unconfirmed and self._shard.is_linked and self._retry_s < self._lease_s:
            asyncio.get_running_loop().call_later(self._retry_s, self._due.set)
            self._retry_s *= 2

    async def _check(self) -> None:
        connections, shard = self._connections, self._shard
        await connections.send_states(shard)
        await connections.drop_stale()
        await self._restore_unconfirmed()
        if self._compare_everything:
            await self._compare(at_once=True)
            self._compare_everything = False
        elif self._differences or not connections.count_matches(shard, self._count):
            await self._compare(at_once=False)

    async def _restore_unconfirmed(self) -> None:
        """Count the connections whose last change nobody knows to have been made as they are now."""
        unconfirmed = self._shard.unconfirmed
        unconfirmed.difference_update([each for each in unconfirmed if not self._connections.is_ours(each)])
        await self._restore(list(unconfirmed))

    async def _compare(self, at_once: bool) -> None:
        """Count held connections that are not counted, and out those that are not held.

        Args:
            at_once: every difference counts now. Otherwise only after a whole lease, since it may show a connection that is
                just coming, going, or on its way to another node.
        """
        connections, shard = self._connections, self._shard
        known_since, self._differences = self._differences, {}
        async for registered in shard.registered():
            connections.confirm(registered, shard)
            unexpected = [
                conn_id for conn_id in registered if not connections.should_register(shard, conn_id)
            ]
            await self._repair(unexpected, known_since, at_once)
        for expected in connections.registered_in(shard):
            if expected:
                await self._repair(await shard.unregistered(expected), known_since, at_once)

    async def _repair(self, conn_ids: Iterable[str], known_since: dict[str, float], at_once: bool) -> None:
        connections, shard = self._connections, self._shard
        to_repair = [conn_id for conn_id in conn_ids if at_once or self._has_lasted(conn_id, known_since)]
        local = connections.receiver.local_connections()
        # What is counted of a connection that should not be counted here is set right as well.
        await self._restore([conn_id for conn_id in to_repair if conn_id in local])
        for conn_id in to_repair:
            await connections.release_unowned(conn_id, shard)

    def _has_lasted(self, conn_id: str, known_since: dict[str, float]) -> bool:
        now_s = asyncio.get_running_loop().time()
        since_s = known_since.get(conn_id, now_s)
        if now_s - since_s >= self._lease_s:
            return True
        self._differences[conn_id] = since_s
        return False

    async def _restore(self, conn_ids: Sequence[str]) -> None:
        ids = iter(conn_ids)
        while batch := list(islice(ids, RESTORE_AT_ONCE)):
            await asyncio.gather(*map(self._restore_one, batch))
            if not self._shard.is_linked:
                raise Unavailable(OUT_OF_REACH)

    async def _restore_one(self, conn_id: str) -> None:
        """Count a connection as it is; a later beat does it where that needs a shard which is out of reach."""
        unconfirmed = self._shard.unconfirmed
        unconfirmed.discard(conn_id)
        try:
            await self._connections.restore(conn_id, self._shard)
        except BaseException as error:
            unconfirmed.add(conn_id)
            if not isinstance(error, Unavailable):
                raise
