"""A client that comes back at once, from the last event it handled, on one of its transports."""

import asyncio
import time
from contextlib import aclosing
from functools import partial
from random import Random

from tests.e2e.cut_lines.truth import StreamRecord, Truth
from tests.e2e.steps import Driver, resuming
from tests.e2e.wire import Items, Wire, open_wire

from channelstream_client.errors import Replaced
from channelstream_client.protocol import LOST, REPLACED, SLOW
from channelstream_client.resuming import OpenStream, Stop, Wait

EXPECTED = frozenset({LOST, REPLACED, SLOW, None})
"""Codes of streams that end, None between two polls."""


class Client:
    """One user with one connection.

    Attributes:
        records: of all its streams and polls.
        handled: the last event it handled, -1 for none.
    """

    def __init__(
        self, truth: Truth, user: str, channels: frozenset[str], transports: tuple[str, ...], random: Random
    ) -> None:
        self.user = user
        self.channels = channels
        self.records: list[StreamRecord] = []
        self.handled = -1
        self._truth = truth
        self._transports = transports
        self._random = random
        self._resuming = resuming("", "")
        self._lost: dict[str, int] = {}

    def registered(self, conn_id: str, position: str) -> None:
        self._resuming = resuming(conn_id, position)

    @property
    def has_all(self) -> bool:
        """Whether it has handled the last event there is, which is for everybody."""
        return self._truth.complete and self.handled == len(self._truth.events) - 1

    async def run(self, port: int) -> None:
        """Listen through the line at this port until there is nothing more to receive.

        Raises:
            AssertionError: a stream sent something wrong.
        """
        driver = Driver(self._resuming, partial(self._open_wire, port))
        while not self.has_all:
            match driver.client.next_step(time.monotonic()):
                case OpenStream() as opening:
                    await self._listen(driver, opening)
                case Wait(wait_s=wait_s, down=down):
                    assert (down and down.code) in EXPECTED, down
                    await asyncio.sleep(wait_s)  # real time: the client decides it, and only polls need it.
                case Stop(error=Replaced()):
                    # Here the requests of several lines that were just cut can reach the server behind the next one.
                    driver.client = resuming(driver.client.conn_id, driver.client.position)
                case step:
                    raise AssertionError(step)
        await driver.close()

    async def _open_wire(self, port: int) -> Wire:
        return await open_wire(self._random.choice(self._transports), port)

    async def _listen(self, driver: Driver, opening: OpenStream[None]) -> None:
        """Read one stream or poll, unless all is received before its end."""
        record = StreamRecord(self.handled, self._truth.acknowledged, dict(self._lost))
        self.records.append(record)
        try:
            async with aclosing(driver.lists(opening)) as lists:
                async for items in lists:
                    self._handle(record, items)
                    if self.has_all:
                        break
        finally:
            record.check(self._truth, self.user, self.channels)

    def _handle(self, record: StreamRecord, items: Items) -> None:
        for item in items:
            if item["type"] == "closing":
                return
            assert item["position"]
            if item["type"] == "resumed":
                assert record.sent is None
                record.sent = len(self._truth.events)
                record.recovered, record.lost = frozenset(item["recovered"]), frozenset(item["lost"])
                self._lost |= dict.fromkeys(record.lost, record.sent)
            else:
                self.handled = self._truth.number(item, record.acknowledged)
                record.received.append(self.handled)
