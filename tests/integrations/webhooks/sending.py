"""A sender in virtual time, with an outbox whose lease the test holds, and two receivers."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.engines.conformance.lab import ALL_KINDS

from channelstream.apps.webhooks import Receiver
from channelstream.core.facts import ChannelOccupied, Fact
from channelstream.engines.local_outbox import LocalOutbox
from channelstream.engines.outbox import OutboxSettings, merged
from channelstream.engines.time_series import LocalTimeSeries
from channelstream.errors import Unavailable
from channelstream.integrations.webhooks.ahead import SentAhead
from channelstream.integrations.webhooks.calling import Figures, LaneParts, NotAccepted
from channelstream.integrations.webhooks.delivery import Delivery, MakeDelivery
from channelstream.integrations.webhooks.sender import Sender
from channelstream.service import Cursor, CursorsOfApps

ONE = Receiver("default", "https://one.example", ALL_KINDS, (b"x" * 24,))
OTHER = Receiver("default", "https://other.example", frozenset(("occupied",)), (b"x" * 24,), batching=False)


class Outbox(LocalOutbox):
    """Its lease is what the test says.

    Attributes:
        token: None means that another node holds the lease.
        is_gone: it is out of reach.
        is_silent: it does not answer, and does not fail either.
        settles: whether the token still counts when cursors are set.
        settled: how often they were set.
    """

    def __init__(self) -> None:
        super().__init__(OutboxSettings())
        self.token: int | None = 1
        self.is_gone = False
        self.is_silent = False
        self.settles = True
        self.settled = self.released = 0

    async def hold(self, ttl_s: float) -> int | None:
        self._check()
        if self.is_silent:
            await asyncio.Event().wait()
        return self.token

    async def read(self, app_id: str, after: Cursor, limit: int) -> Any:
        self._check()
        return await super().read(app_id, after, limit)

    async def settle(self, token: int, cursors: CursorsOfApps) -> bool:
        self._check()
        self.settled += 1
        return self.settles and await super().settle(token, cursors)

    async def release(self) -> None:
        self.released += 1

    def _check(self) -> None:
        if self.is_gone:
            raise Unavailable("x")


class World:
    """A sender with two receivers, whose time passes by itself.

    Attributes:
        received: the facts of each accepted call, by URL.
        is_down: URLs that accept nothing.
        refused: facts that every receiver refuses.
    """

    def __init__(self) -> None:
        self.outbox = Outbox()
        self.series = LocalTimeSeries()
        self.received: dict[str, list[str]] = {}
        self.is_down: set[str] = set()
        self.refused: set[str] = set()
        self.now_s = 0.0
        self.use(ONE, OTHER)

    def use(self, *receivers: Receiver) -> None:
        """Send to these receivers, as another process."""
        makers = {each.name: self._maker(each) for each in receivers}
        self.received |= {each.url: [] for each in receivers if each.url not in self.received}
        beyond = SentAhead(self.series, lambda: self.now_s)
        self.sender = Sender(self.outbox, makers, beyond, self.sleep)

    @property
    def cursors(self) -> dict[str, Cursor]:
        """How far each receiver is; empty if it does not send."""
        return merged(self.sender.cursors)

    def _maker(self, receiver: Receiver) -> MakeDelivery:
        async def post(headers: dict[str, str], body: bytes) -> None:
            await asyncio.sleep(0)
            if receiver.url in self.is_down:
                raise NotAccepted("status 503")
            found = [part.split('"')[0] for part in body.decode().split('{"id":"')[1:]]
            if not self.refused.isdisjoint(found):
                raise NotAccepted("status 400", 400)
            self.received[receiver.url] += found

        async def given_up(facts: tuple[Fact, ...], reason: str) -> None:
            """Forget them."""

        parts = LaneParts(
            receiver, post, Figures(), lambda: 1e9, lambda: self.now_s, self.sleep, given_up
        )  # fmt: skip
        return lambda begin, reached: Delivery(self.outbox, begin, reached, parts)

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds / 100
        await asyncio.sleep(0)

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(100_000):
            if condition():
                return
            await asyncio.sleep(0)
        raise AssertionError("it does not come to that")

    def run(self, life: Callable[[], Awaitable[None]]) -> None:
        async def whole() -> None:
            self.sender.start()
            self.sender.start()
            try:
                await life()
            finally:
                await self.sender.stop()
                await self.sender.stop()

        asyncio.run(whole())


def occupied(*names: str) -> list[Fact]:
    return [ChannelOccupied(id=f"of-{name}", at_ms=number, channel=name) for number, name in enumerate(names)]
