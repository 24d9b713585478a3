"""Makes a shard register exactly the connections of this node.

Differences arise when an answer is lost, when the shard was out of reach, or when the lease has ended and other nodes have
unregistered connections. No log of pending repairs exists that could be lost, too: the reconciler compares the shard
with the memory of the node, so it finds every difference whatever its cause.

- **Cheap when nothing differs.** Each heartbeat returns one number, and equal numbers count as equal sets. Only
  different numbers, an outage, an ended lease or an unconfirmed connection (`registration_index.py`) cause a comparison. Two
  differences that cancel out are found after the next outage; to compare all ids at each heartbeat would cost a million
  ids per node every few seconds.
- **Not too early.** A difference may be a connection that is connecting, ending or moving at this moment. So it is
  repaired only when it has lasted for a whole lease. After an outage or an ended lease what is missing is registered at
  once: waiting would leave the members of a channel wrong for seconds. What this node does not have is released after a
  lease then, too: the node, or the process before it, may have let another node have it, whose claim is on its way. To
  release it would end a connection that moves.
- **Beside the heartbeats.** To register a million connections again takes minutes. It is done in batches by a task of
  its own, so that the lease is renewed as always (`lease_manager.py`).
"""

import asyncio
from collections.abc import Iterable, Sequence
from itertools import islice

from channelstream.engines.redis.link_state import OUT_OF_REACH
from channelstream.engines.redis.ownership import Ownership
from channelstream.engines.redis.periodic import failure_reason
from channelstream.engines.redis.registration_index import RegistrationStep
from channelstream.engines.redis.restoring import Restoring
from channelstream.engines.redis.shard import Shard
from channelstream.errors import Unavailable

RESTORE_AT_ONCE = 200
"""Connections repaired concurrently."""
RETRY_MIN_S = 0.2
"""The first pause before a retry after an outage, in seconds; each further one is twice as long."""


class Reconciler:
    """Compares the registrations in one shard with the connections of this node, one comparison at a time."""

    def __init__(self, ownership: Ownership, restoring: Restoring, shard: Shard, lease_s: float) -> None:
        self._ownership = ownership
        self._restoring = restoring
        self._shard = shard
        self._unconfirmed = ownership.registrations.unconfirmed[shard.index]
        self._lease_s = lease_s
        self._due = asyncio.Event()
        self._count = 0
        self._compare_everything = False
        self._retry_s = lease_s
        self._differences: dict[str, float] = {}

    def on_reconnect(self) -> None:
        """Schedule a comparison of everything: the shard was out of reach, so every difference is repaired at once."""
        self._retry_s = RETRY_MIN_S
        self._compare_everything = True
        self._due.set()

    def on_heartbeat(self, count: int, lapsed: bool) -> None:
        """Schedule a comparison if the result of a heartbeat asks for one.

        Args:
            count: how many connections the shard registers for this node.
            lapsed: whether the lease had ended, so that other nodes may have unregistered any of them.
        """
        shard = self._shard
        self._count = count
        self._compare_everything = self._compare_everything or lapsed
        matches = self._ownership.count_matches(shard.index, count)
        if (
            self._compare_everything
            or not matches
            or self._differences
            or self._unconfirmed
            or shard.pending_state
        ):
            self._due.set()

    async def run(self) -> None:
        """Compare whenever a comparison is due."""
        while True:
            await self._due.wait()
            self._due.clear()  # Before the check: what becomes due during it causes another one.
            await failure_reason(self._check)
            self._schedule_retry()

    def _schedule_retry(self) -> None:
        """Repeat soon the repairs that failed because other shards were still reconnecting, too."""
        if self._unconfirmed and self._shard.is_linked and self._retry_s < self._lease_s:
            asyncio.get_running_loop().call_later(self._retry_s, self._due.set)
            self._retry_s *= 2

    async def _check(self) -> None:
        await self._restoring.send_states(self._shard)
        await self._restoring.drop_stale()
        await self._restore_unconfirmed()
        if self._compare_everything:
            await self._compare(at_once=True)
            self._compare_everything = False
        elif self._differences or not self._ownership.count_matches(self._shard.index, self._count):
            await self._compare(at_once=False)

    async def _restore_unconfirmed(self) -> None:
        """Restore the connections whose last call has an unknown outcome."""
        for conn_id in [each for each in self._unconfirmed if not self._ownership.is_ours(each)]:
            self._move(conn_id, RegistrationStep.SETTLE)
        await self._restore(list(self._unconfirmed))

    def _move(self, conn_id: str, step: RegistrationStep) -> None:
        self._ownership.registrations.move(conn_id, self._shard.index, step)

    async def _compare(self, at_once: bool) -> None:
        """Register connections that are missing in the shard, and release those that this node does not have.

        Args:
            at_once: register all that are missing now, otherwise those that have been for a whole lease.
        """
        registrations, shard = self._ownership.registrations, self._shard
        known_since, self._differences = self._differences, {}
        async for registered in shard.scans.registered():
            self._restoring.confirm(registered, shard)
            unexpected = [conn_id for conn_id in registered if not registrations.has(conn_id, shard.index)]
            await self._repair(unexpected, known_since, at_once=False)
        for expected in registrations.batches_in(shard.index):
            if expected:
                await self._repair(await shard.scans.unregistered(expected), known_since, at_once)

    async def _repair(self, conn_ids: Iterable[str], known_since: dict[str, float], at_once: bool) -> None:
        to_repair = [conn_id for conn_id in conn_ids if at_once or self._has_lasted(conn_id, known_since)]
        local = self._ownership.local()
        # Also a connection of this node that the shard should not register: `restore` unregisters it there.
        await self._restore([conn_id for conn_id in to_repair if conn_id in local])
        for conn_id in to_repair:
            await self._restoring.release_unowned(conn_id, self._shard)

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
        """Restore a connection; the next comparison repeats it if that needs a shard which is out of reach."""
        # Before the call, not after it: another call about it may fail meanwhile.
        self._move(conn_id, RegistrationStep.SETTLE)
        try:
            await self._restoring.restore(conn_id, self._shard)
        except BaseException as error:
            self._move(conn_id, RegistrationStep.FAIL)
            if not isinstance(error, Unavailable):
                raise
