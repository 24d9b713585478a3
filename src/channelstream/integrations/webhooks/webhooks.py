"""The webhooks of a server: its receivers, and what sends to them."""

import asyncio
import ssl
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from channelstream.apps.webhooks import Receiver
from channelstream.integrations.webhooks.ahead import SentAhead
from channelstream.integrations.webhooks.calling import Figures, LaneParts
from channelstream.integrations.webhooks.dead_letters import DeadLetter, DeadLetters
from channelstream.integrations.webhooks.delivery import Delivery, is_sent
from channelstream.integrations.webhooks.progress import Reached
from channelstream.integrations.webhooks.refused import RefusalSummary
from channelstream.integrations.webhooks.sender import Sender
from channelstream.service import Cursor, Node

if TYPE_CHECKING:
    from channelstream.integrations.webhooks.post import Poster


class Webhooks:
    """Sends to all receivers, at one node of the service; nothing where there is none.

    Attributes:
        figures: what happened to the calls of each receiver at this node, by its name.
    """

    def __init__(self, receivers: Sequence[Receiver], node: Node) -> None:
        """Create it; it does not send yet."""
        self.receivers = {each.name: each for each in receivers}
        self.figures = {name: Figures() for name in self.receivers}
        self.dead_letters = DeadLetters(node.time_series, node.clock.wall)
        self._node = node
        self._posters: dict[str, Poster] = {}
        if receivers:
            # Both take long, so not when another node has died and this one begins to send.
            from channelstream.integrations.webhooks import post

            self._make_poster = post.Poster
            self._trust = ssl.create_default_context()
        makers = {name: partial(self._delivery, each) for name, each in self.receivers.items()}
        ahead = SentAhead(node.time_series, node.clock.wall)
        self._sender = Sender(node.outbox, makers, ahead, asyncio.sleep) if receivers else None

    def _delivery(self, receiver: Receiver, begin: Cursor, reached: Reached) -> Delivery:
        if receiver.name not in self._posters:
            self._posters[receiver.name] = self._make_poster(receiver, self._trust)
        clock = self._node.clock
        parts = LaneParts(
            receiver,
            self._posters[receiver.name].post,
            self.figures[receiver.name],
            clock.wall,
            clock.steady,
            asyncio.sleep,
            partial(self.dead_letters.add, receiver),
        )
        return Delivery(self._node.outbox, begin, reached, parts)

    @property
    def is_sending(self) -> bool:
        """Whether this node is the one that sends."""
        return self._sender is not None and self._sender.is_sending

    @property
    def open(self) -> dict[str, int]:
        """How many facts each receiver is being sent, by its name; empty if another node sends."""
        return {} if self._sender is None else self._sender.open

    @property
    def refusals(self) -> dict[str, RefusalSummary]:
        """What each receiver refuses alone, by its name; empty if another node sends."""
        return {} if self._sender is None else self._sender.refusals

    def give_up_refused(self, receiver: Receiver) -> int:
        """Have the facts given up that a receiver refuses alone; return how many, 0 if another node sends."""
        return 0 if self._sender is None else self._sender.give_up_refused(receiver.name)

    @property
    def dropped(self) -> int:
        """How many facts the outbox has dropped while this node has sent."""
        return 0 if self._sender is None else self._sender.dropped

    async def oldest_ms(self, receivers: Iterable[Receiver]) -> dict[str, int]:
        """Return since when each of these receivers waits for its oldest fact, in epoch milliseconds, by their names.

        Raises:
            Unavailable: the engine is out of reach.
        """
        outbox = self._node.outbox
        cursors, found = await outbox.cursors(), {}
        for receiver in receivers:
            kept = await outbox.read(receiver.app_id, cursors.get(receiver.name, outbox.beginning), 1)
            times = [each.fact.at_ms for each in kept if each.fact and is_sent(receiver, each.fact)]
            if times:
                found[receiver.name] = min(times)
        return found

    async def send_again(self, letters: Sequence[DeadLetter]) -> None:
        """Send dead letters again, each to the receiver that had not accepted it; those that were cut are left out.

        Raises:
            Unavailable: the engine is out of reach; some of them may be sent.
        """
        new_id, at_ms = self._node.new_id, round(self._node.clock.wall() * 1000)
        whole = [each for each in letters if each.is_whole]
        await self._node.outbox.append([DeadLetters.repeated(each, new_id(), at_ms) for each in whole])

    def start(self) -> None:
        """Begin to send as soon as this node holds the lease; also after `stop`."""
        if self._sender is not None:
            self._sender.start()

    async def stop(self, is_replaced: bool = False) -> None:
        """Send no more.

        Args:
            is_replaced: another process goes on as this node, so the lease stays.
        """
        if self._sender is not None:
            await self._sender.stop(releases=not is_replaced)
        posters, self._posters = self._posters, {}
        for poster in posters.values():
            await poster.close()
