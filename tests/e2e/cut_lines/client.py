"""A client that comes back at once, from the last event it handled, on one of its transports."""

import asyncio
from random import Random

from tests.e2e.cut_lines.truth import StreamRecord, Truth
from tests.e2e.wire import Ended, Items, Wire, open_wire

COME_BACK = frozenset({4002, 4008})
"""Endings after which this client comes back. 4002 would stop a real one; here the request of a line that was just
cut can reach the server behind that of the next, and then it is the older stream that replaces."""


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
        self._conn_id = self._position = ""
        self._lost: dict[str, int] = {}

    def registered(self, conn_id: str, position: str) -> None:
        self._conn_id, self._position = conn_id, position

    @property
    def has_all(self) -> bool:
        """Whether it has handled the last event there is, which is for everybody."""
        return self._truth.complete and self.handled == len(self._truth.events) - 1

    async def run(self, port: int) -> None:
        """Listen through the line at this port until there is nothing more to receive.

        Raises:
            AssertionError: a stream sent something wrong.
        """
        while not self.has_all:
            wire = await open_wire(self._random.choice(self._transports), port)
            try:
                await self._listen(wire)
            except Ended as end:
                assert end.code in COME_BACK, end
            except (ConnectionError, asyncio.IncompleteReadError):
                pass  # The line was cut.
            finally:
                await wire.close()

    async def _listen(self, wire: Wire) -> None:
        """Resume, once or poll by poll, for as long as the line lasts."""
        while not self.has_all:
            record = StreamRecord(self.handled, self._truth.acknowledged, dict(self._lost))
            self.records.append(record)
            try:
                await wire.ask(self._conn_id, self._position)
                await self._follow(wire, record)
            finally:
                record.check(self._truth, self.user, self.channels)

    async def _follow(self, wire: Wire, record: StreamRecord) -> None:
        self._handle(record, await wire.items())
        while not wire.answers_once and not self.has_all:
            self._handle(record, await wire.items())

    def _handle(self, record: StreamRecord, items: Items) -> None:
        for item in items:
            if item["type"] == "closing":
                raise Ended(item["code"])
            if item["type"] == "resumed":
                assert record.sent is None
                record.sent = len(self._truth.events)
                record.recovered, record.lost = frozenset(item["recovered"]), frozenset(item["lost"])
                self._lost |= dict.fromkeys(record.lost, record.sent)
            else:
                self.handled = self._truth.number(item, record.acknowledged)
                record.received.append(self.handled)
            self._position = item["position"]
