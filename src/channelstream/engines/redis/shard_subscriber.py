"""What a node subscribes to in one shard, and the messages that arrive.

The invariant is that of `EventLog.position`: `ShardState.offset` never passes an event of a subscribed channel or user that
was neither delivered nor reported as lost. Pub/sub alone cannot guarantee this: Redis drops messages when a connection
breaks, and when a subscriber is too slow. But the log has all events. So gaps are detected: each message carries the offset
of the previous event in its channel. If that event was not received, the link is broken on purpose and the log is read
(`_on_gap`). One counter for all messages would not show gaps, since each node subscribes to other channels.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from redis.exceptions import ConnectionError as Lost

from channelstream.engines.redis.delivery import Delivery
from channelstream.engines.redis.event_text import Place, logs_of
from channelstream.engines.redis.shard_client import ASK_TIMEOUT_S, ShardClient
from channelstream.engines.redis.shard_link import ShardLink
from channelstream.engines.redis.shard_state import PAYLOAD_PREFIX, ShardState
from channelstream.errors import Unavailable

ANSWERED_WITHIN_S = 0.3
"""How long a command of another node may still be executed when this one stops receiving them: clients wait meanwhile."""
EPOCH = b"epoch "
"""Prefix of the message to all nodes that announces a new epoch."""

logger = logging.getLogger(__name__)


class ShardSubscriber:
    """The subscriptions of one node in one shard.

    Attributes:
        subscribed: the channels and users, each with the offset from which on gaps are detected; -1 if it is not known.
    """

    def __init__(self, state: ShardState, link: ShardLink, client: ShardClient, delivery: Delivery) -> None:
        self.subscribed: dict[str, int] = {}
        self._state = state
        self._link = link
        self._client = client
        self._delivery = delivery
        self._unused: set[str] = set()
        self._held: Counter[str] = Counter()
        self._payloads: dict[bytes, bytes] = {}
        self._answers: set[asyncio.Task[None]] = set()
        self._skipped = 0  # The offset of the last event, if this version cannot read it.

    @contextmanager
    def hold(self, names: Collection[str]) -> Iterator[None]:
        """Keep names subscribed while a member is added: that may take many calls, and each of them may wait."""
        self._held.update(names)
        try:
            yield
        finally:
            self._held.subtract(names)
            for name in names:
                if self._held[name] <= 0:
                    del self._held[name]
            self._unused.difference_update(names)

    async def subscribe(self, names: Sequence[str]) -> set[str]:
        """Subscribe to channels and users; return those that are new."""
        new = [name for name in names if name not in self.subscribed]
        # The caller is about to add a member: `unsubscribe_unused` must not unsubscribe these names meanwhile.
        self._unused.difference_update(names)
        if new:
            await self._client.outlast_move(lambda: self._link.linked().subscription.subscribe(new))
            # Names that another call has subscribed and marked as complete meanwhile keep their offset.
            self.subscribed |= {name: -1 for name in new if name not in self.subscribed}
        return set(new)

    def mark_complete(self, names: Iterable[str], offset: int) -> None:
        """Record that no event of these names is missing up to an offset: gaps are detected from there."""
        self.subscribed |= {
            name: max(self.subscribed[name], offset) for name in names if name in self.subscribed
        }

    async def unsubscribe_unused(self) -> None:
        """Unsubscribe from channels and users that had no member here in two collections in a row.

        One collection is not enough: a join subscribes first, and its member exists only after the last answer of the
        script, and a moment after `hold`.
        """
        unused = {name for name in self.subscribed if not self._is_used(name)}
        unsubscribed = unused & self._unused
        self._unused = unused - unsubscribed
        for name in unsubscribed:
            del self.subscribed[name]
        if unsubscribed:
            await self._link.unsubscribe(unsubscribed)

    def _is_used(self, name: str) -> bool:
        if name in self._held:
            return True
        kind, _, rest = name.partition(":")
        is_used = {
            "#c": self._delivery.cluster_receiver.has_channel,
            "#u": self._delivery.cluster_receiver.has_user,
        }[kind]
        return is_used(rest)

    def on_message(self, name: bytes, data: bytes) -> None:
        kind = name.partition(b":")[0]
        if data.startswith(PAYLOAD_PREFIX):
            # The event of a payload follows at once, in the same transaction. An older payload is that of a refused event.
            _, token, payload = data.split(b" ", 2)
            self._payloads = {token: payload}
        elif kind in (b"#c", b"#u"):
            self._on_entry(name.decode(), data)
        elif kind == b"#n":
            self._payloads.clear()
            self._on_node_message(*data.split(b" ", 1))
        elif kind == b"#all" and data.startswith(EPOCH):
            self._on_epoch(data.removeprefix(EPOCH).decode())
        elif kind == b"#all":
            # A newer version may send it during a rolling upgrade.
            logger.warning("a message of an unknown kind to all nodes: %r", data[:50])
        else:
            raise ValueError(name)

    def _on_epoch(self, epoch: str) -> None:
        if epoch != self._state.epoch:
            self._link.abandon("the log is another one")

    def _on_entry(self, name: str, data: bytes) -> None:
        offset, previous, at_ms, token, text = data.split(b" ", 4)
        payload = self._payloads.get(token, b"")
        if not token:
            self._payloads.clear()
        elif not payload:
            raise Lost(f"the payload of event {int(offset)} was not received")
        number, seen = int(offset), self.subscribed.get(name, -1)
        if -1 < seen < int(previous):
            self._on_gap(int(previous))
            return
        if name in self.subscribed:
            self.subscribed[name] = max(seen, number)
        # A private message is published once for each of its users.
        if number > self._state.offset:
            self.deliver(offset, at_ms, text, payload, place=_place(name))
        elif number == self._skipped:
            self._delivery.skip(self._state.index, number, [_place(name)])

    def _on_gap(self, number: int) -> None:
        """Break the link, so that the log is read from the gap.

        Raises:
            Lost: always, since one more message would move `offset` past the missed event.
        """
        # A client's position may have passed an event behind `offset`, so no position is valid any more.
        self._state.needs_new_epoch = self._state.needs_new_epoch or number <= self._state.offset
        raise Lost(f"event {number} was not received")

    def deliver(
        self, offset: bytes, at_ms: bytes, text: bytes, payload: bytes = b"", *, place: Place | None = None
    ) -> None:
        """Deliver an event, or report its log as lost if this version cannot read it.

        Args:
            place: a log that it is in; None if only its text may show that: if it does not either, all logs are lost.
        """
        self._state.offset, self._skipped = int(offset), 0
        if not self._delivery.deliver(self._state.index, offset, at_ms, text, payload):
            self._skipped = int(offset)
            known = logs_of(text) if place is None else [place]
            self._delivery.skip(self._state.index, self._skipped, known or list(map(_place, self.subscribed)))
            self._delivery.advance()

    def advance(self, offset: int) -> None:
        if offset > self._state.offset:
            self._state.offset = offset
            self._delivery.advance()

    def _on_node_message(self, kind: bytes, rest: bytes) -> None:
        """Handle a message to this node alone."""
        match kind:
            case b"yielded":
                self._delivery.taken_over(rest.decode())
            case b"ask":
                node, token, command = rest.split(b" ", 2)
                self._run(self._answer(node.decode(), token.decode(), command))
            case b"echo":
                self._run(self._echo(*rest.decode().split()))
            case b"mark" | b"reply":
                token, _, data = rest.partition(b" ")
                if kind == b"mark":
                    self.advance(int(data))
                self._client.replies.resolve(token, data)
            case b"there":
                pass  # Only the number of receivers matters: `claim` in Lua counts them.
            case _:
                # A newer version may send it during a rolling upgrade.
                logger.warning("a node sent a message of an unknown kind: %r", kind)

    async def stop_answering(self, own_channel: str) -> None:
        """Receive no more commands of other nodes, after those that have arrived are answered.

        Race: a command that is executed and not answered has changed the connection, and the other node does not learn how;
        of a released connection it would not know what its client was sent.
        """
        # First while answers still arrive that they may wait for themselves.
        await self._answered()
        with suppress(Unavailable):
            await self._link.linked().subscription.end(own_channel)
        await self._answered()

    async def _answered(self) -> None:
        if self._answers:
            await asyncio.wait(list(self._answers), timeout=ANSWERED_WITHIN_S)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        answer = self._link.run(work)
        self._answers.add(answer)
        answer.add_done_callback(self._answers.discard)

    async def _echo(self, node: str, token: str) -> None:
        """Let a node know that this one has received what was published before."""
        with suppress(Unavailable):
            await self._client.call("reply", node=node, token=token, blob=b"")

    async def _answer(self, node: str, token: str, command: bytes) -> None:
        try:
            # A link that is being established receives commands before calls can be made over it, and a process that takes
            # over before the former one has ended. A command that cannot be answered in time is not executed: the other node
            # would not learn what it has changed.
            async with asyncio.timeout(ASK_TIMEOUT_S / 2):
                await self._delivery.may_execute.wait()
                await self._link.wait_linked()
            await self._client.call(
                "reply", node=node, token=token, blob=await self._delivery.cluster_receiver.execute(command)
            )
        except (Unavailable, TimeoutError) as error:
            logger.warning("a command of another node was not answered: %s", error or "it came too early")


def _place(name: str) -> Place:
    """Return the log that a name of a subscription stands for."""
    return name[1], name[3:]
