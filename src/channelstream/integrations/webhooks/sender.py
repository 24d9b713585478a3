"""Sends webhooks while this node holds the lease: one node of a service does.

When the lease is lost, or cannot be renewed in time, the deliveries are cancelled: what was not answered is sent again by
the node that holds it next. So a fact arrives at least once.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from math import inf

from channelstream.errors import Unavailable
from channelstream.integrations.webhooks.ahead import SentAhead
from channelstream.integrations.webhooks.calling import Sleep
from channelstream.integrations.webhooks.delivery import Delivery, MakeDelivery
from channelstream.integrations.webhooks.refused import RefusalSummary
from channelstream.service import Cursor, CursorsOfApps, Outbox

LEASE_S = 15.0
"""How long the lease lasts without a renewal, in seconds."""
STEP_S = 1.0
"""Time between two renewals, after each of which the cursors are kept, in seconds."""
MARGIN_S = 12.0
"""Age of the last renewal at which the deliveries are cancelled, in seconds: before another node can hold the lease."""
KEPT_AGAIN_S = 3600.0
"""Age at which the same cursors are kept again, in seconds: an engine forgets the outbox in `OutboxSettings.kept_s`."""

logger = logging.getLogger(__name__)


class Sender:
    """The task that holds the lease, and the deliveries to all receivers.

    Attributes:
        dropped: how many facts the outbox has dropped, since they were too many, while this node has sent.
    """

    def __init__(
        self, outbox: Outbox, deliveries: Mapping[str, MakeDelivery], ahead: SentAhead, sleep: Sleep
    ) -> None:
        """Create it.

        Args:
            deliveries: by the names of the receivers.
        """
        self._outbox = outbox
        self._make = deliveries
        self._ahead = ahead
        self._sleep = sleep
        self._task: asyncio.Task[None] | None = None
        self._deliveries: dict[str, Delivery] = {}
        self._running: asyncio.Task[None] | None = None
        self._token = 0
        self._renewed_s = -inf
        self._kept: CursorsOfApps = {}
        self._kept_s = -inf
        self._seen_dropped = 0
        self.dropped = 0

    @property
    def is_sending(self) -> bool:
        """Whether this node holds the lease."""
        return self._running is not None

    @property
    def cursors(self) -> CursorsOfApps:
        """How far each receiver of each application is; empty if another node sends."""
        found: dict[str, dict[str, Cursor]] = {}
        for name, each in self._deliveries.items() if self.is_sending else ():
            found.setdefault(each.app_id, {})[name] = each.progress.cursor
        return found

    @property
    def open(self) -> dict[str, int]:
        """How many facts each receiver is being sent; empty if another node sends."""
        return (
            {name: each.progress.open for name, each in self._deliveries.items()} if self.is_sending else {}
        )

    @property
    def refusals(self) -> dict[str, RefusalSummary]:
        """What each receiver refuses alone; empty if another node sends."""
        return {name: each.refusals for name, each in self._deliveries.items()} if self.is_sending else {}

    def give_up_refused(self, receiver: str) -> int:
        """Have the facts given up that a receiver refuses, by its name; return how many, 0 if another node sends."""
        delivery = self._deliveries.get(receiver)
        return delivery.give_up_refused() if delivery is not None else 0

    def start(self) -> None:
        """Begin to send as soon as the lease is held."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self, releases: bool = True) -> None:
        """Send no more, and keep the cursors.

        Args:
            releases: another node may send at once; not if another process goes on as this node.
        """
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        was_sending = self.is_sending
        await self._end()
        if was_sending and releases:
            with suppress(Unavailable):
                await self._outbox.release()

    async def _run(self) -> None:
        while True:
            try:
                # It ends before another node can hold the lease, also if the engine does not answer.
                async with asyncio.timeout_at(self._renewed_s + MARGIN_S if self.is_sending else None):
                    await self._step()
            except (Unavailable, TimeoutError):
                if self.is_sending and self._now_s() - self._renewed_s >= MARGIN_S:
                    await self._cancel()
            except Exception:
                logger.exception("webhooks are not sent; trying again")
                await self._cancel()
            await self._sleep(STEP_S)

    async def _step(self) -> None:
        """Renew the lease, and keep the cursors."""
        began_s = self._now_s()
        token = await self._outbox.hold(LEASE_S)
        if token is None or (self.is_sending and token != self._token):
            await self._cancel()
        if token is None:
            return
        self._renewed_s, self._token = began_s, token
        if self._running is not None and self._running.done():
            # Only a bug ends it: this raises what it has raised.
            self._running.result()
        if not self.is_sending:
            await self._begin()
        elif not await self._keep_cursors():
            await self._cancel()
            return
        for name, delivery in self._deliveries.items():
            await self._ahead.keep(name, delivery.progress)
        dropped = (await self._outbox.state()).dropped
        self.dropped += max(0, dropped - self._seen_dropped)
        self._seen_dropped = dropped

    async def _begin(self) -> None:
        known, beginning = await self._outbox.cursors(), self._outbox.beginning
        # Those of other nodes and earlier processes were counted there.
        self._seen_dropped = (await self._outbox.state()).dropped
        self._kept = {}
        reached = dict(zip(self._make, await asyncio.gather(*map(self._ahead.read, self._make)), strict=True))
        self._deliveries = {
            name: make(known.get(name, beginning), reached[name]) for name, make in self._make.items()
        }
        self._running = asyncio.get_running_loop().create_task(self._deliver())
        logger.info("webhooks are sent by this node")

    async def _deliver(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for delivery in self._deliveries.values():
                tasks.create_task(delivery.run())

    async def _keep_cursors(self) -> bool:
        cursors = self.cursors
        began_s = self._now_s()
        if cursors == self._kept and began_s < self._kept_s + KEPT_AGAIN_S:
            return True
        is_holder = await self._outbox.settle(self._token, cursors)
        self._kept, self._kept_s = cursors, began_s
        return is_holder

    async def _end(self) -> None:
        """Cancel the deliveries, and keep how far they were."""
        if self.is_sending:
            running = self._running
            assert running is not None  # noqa: S101 - it is sending
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            with suppress(Unavailable):
                await self._keep_cursors()
                for name, delivery in self._deliveries.items():
                    await self._ahead.keep(name, delivery.progress, is_end=True)
            await self._cancel()

    async def _cancel(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        self._deliveries = {}

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()
