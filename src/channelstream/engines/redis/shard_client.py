"""The calls of one node to one shard: scripts and commands, over the link that there is at the moment (`shard_link.py`).

A call is made once, except while the slot of the shard moves: a refused call has done nothing then, and waits
(`slot_move.py`).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, TypeVar

import msgspec
from redis.exceptions import ResponseError

from channelstream.engines.cluster import OwnerSilent
from channelstream.engines.redis.address import ShardAddress
from channelstream.engines.redis.link import Link
from channelstream.engines.redis.pending_replies import PendingReplies
from channelstream.engines.redis.refusals import REFUSED, RefusalLog, is_known, needs_new_link, reason_of
from channelstream.engines.redis.shard_link import ShardLink
from channelstream.engines.redis.shard_state import NodeContext, ShardState
from channelstream.engines.redis.slot_move import MOVING, SlotMoving
from channelstream.errors import Unavailable

CHUNK = 100
"""Channels or users named in one call; the script answers how many of them it has done."""
AGAIN = b"again"
"""The answer of the script if it has stopped at its limits: the caller makes the same call again."""
ECHO_STEPS = 8
"""Steps, of 1 MiB at most, after which a call that publishes very much waits for the other nodes."""
ASK_TIMEOUT_S = 2.0
"""How long another node may take to execute a command, in seconds."""
_NOTHING: Mapping[str, Any] = {}

_pack = msgspec.msgpack.Encoder().encode
T = TypeVar("T")


class ShardClient:
    """What a node asks of one shard.

    Attributes:
        replies: the replies that the node waits for.
    """

    def __init__(self, address: ShardAddress, node: NodeContext, state: ShardState, link: ShardLink) -> None:
        self.replies = PendingReplies(node.new_id)
        self._address = address
        self._node = node
        self._state = state
        self._link = link
        self._refusals = RefusalLog()

    @property
    def epoch(self) -> str:
        return self._state.epoch

    # -- calls

    async def call(self, operation: str, **arguments: Any) -> Any:
        """Run an operation in as many steps as it takes, within one deadline.

        The deadline includes the time to receive the messages published by each step. So a call that publishes very
        much may be refused.

        Raises:
            Unavailable: Redis is out of reach, or has another log. Some steps may be done: a repeated call continues
                after them.
        """
        until_s = self._deadline_s
        step = partial(self.step, operation, until_s=until_s, **arguments)
        while (answer := await self.outlast_move(step, until_s, arguments)) == AGAIN:
            pass
        return answer

    @property
    def _deadline_s(self) -> float:
        return asyncio.get_running_loop().time() + self._node.settings.timeout_s

    async def outlast_move(
        self,
        work: Callable[[], Awaitable[T]],
        until_s: float | None = None,
        arguments: Mapping[str, Any] = _NOTHING,
        epoch: str | None = None,
    ) -> T:
        """Run work, again each time it was refused because the slot of this shard moves.

        Args:
            epoch: that of the log which the work is about; None means the present one.

        Raises:
            Unavailable: the move has not ended before the deadline, or a new log has begun meanwhile.
        """
        epoch = self._state.epoch if epoch is None else epoch

        async def in_this_log() -> T:
            if self._state.epoch != epoch:
                raise Unavailable(REFUSED)
            return await work()

        until_s = self._deadline_s if until_s is None else until_s
        return await self._link.move.outlast(in_this_log, until_s, lambda: len(_pack(arguments)))

    async def step(self, operation: str, until_s: float | None = None, **arguments: Any) -> Any:
        """Run one step; AGAIN is the answer if there is more to do.

        After AGAIN it waits until this node has received what the step published. Otherwise Redis would drop a
        subscriber that falls too far behind (`client-output-buffer-limit`).
        """
        answer = await self.call_on(self._link.linked(), operation, until_s=until_s, **arguments)
        if answer == AGAIN:
            await self._await_published(until_s)
        return answer

    async def _await_published(self, until_s: float | None) -> None:
        """Wait until this node has received everything that was published up to now."""
        link = self._link.linked()
        until_s = link.deadline_s if until_s is None else until_s
        async with self.replies.expect() as (token, mark):
            about = {"starts": [], "limit": 0, "mark": token, "node": self._node.name}
            await self.call_on(link, "replay", until_s=until_s, **about)
            await link.subscription.await_mark(mark, until_s)

    async def send_paced(self, operation: str, **arguments: Any) -> None:
        """Run an operation that publishes very much, each step with its own deadline: a finished step proves progress.

        Now and then it waits for the other nodes, which may receive more slowly than this one.
        """
        step, silent = partial(self.step, operation, **arguments), set[str]()
        for done in count(1):
            if await self.outlast_move(step, arguments=arguments) != AGAIN:
                return
            if done % ECHO_STEPS == 0:
                silent |= await self._await_nodes(silent)

    async def _await_nodes(self, silent: Collection[str]) -> set[str]:
        """Wait until the other nodes have received what was published up to now; return those that did not say so.

        Args:
            silent: nodes that are not waited for.
        """
        living = {node.decode() for node, *_, lives in await self.call("nodes") if lives}
        others = sorted(living.difference(silent, [self._node.name]))
        received = await asyncio.gather(*map(self._has_received, others))
        return {node for node, is_done in zip(others, received, strict=True) if not is_done}

    async def _has_received(self, node: str) -> bool:
        """Wait for the echo of a node; false if it does not come in time."""
        with suppress(Unavailable):
            async with self.replies.expect() as (token, echo):
                if await self.call("echo", node=self._node.name, token=token, to=node):
                    await asyncio.wait_for(echo, ASK_TIMEOUT_S)
                return True
        return False

    async def call_for_each(self, operation: str, name: str, items: Sequence[Any], **arguments: Any) -> None:
        """Run an operation on a list, in as many calls as it takes: each call answers how many items it has done.

        Args:
            name: the argument of the operation that takes the list.
        """
        done = 0
        while done < len(items):
            done += await self.call(operation, **{name: items[done : done + CHUNK]}, **arguments)

    async def read_each(self, operation: str, names: Sequence[str], **options: bool) -> list[Any]:
        """Run an operation that reads a list of names, in as many calls as it takes: each answers how many it has read."""
        found: list[Any] = []
        done = 0
        while done < len(names):
            count, batch, *_ = await self.call(operation, names=names[done : done + CHUNK], **options)
            done += count
            found += batch
        return found

    async def call_on(self, link: Link, operation: str, **arguments: Any) -> Any:
        clock = self._node.clock
        now_ms = "" if clock is None else f"{clock.wall() * 1000:.0f}"
        try:
            return await link.call(self._state.epoch, now_ms, operation, **arguments)
        except MOVING as error:
            self._link.note_move(link, error)
            raise SlotMoving(REFUSED) from error
        except ResponseError as error:
            if needs_new_link(error):
                link.abandon(reason_of(error))
            self._refusals.report(logging.WARNING if is_known(error) else logging.ERROR, operation, error)
            raise Unavailable(REFUSED) from error

    async def command(self, *parts: Any) -> Any:
        """Run a command, again each time it was refused because the slot of this shard moves."""
        return await self.outlast_move(lambda: self.command_on(self._link.linked(), *parts))

    async def command_on(self, link: Link, *parts: Any) -> Any:
        try:
            return await link.command(*parts)
        except MOVING as error:
            self._link.note_move(link, error)
            raise SlotMoving(REFUSED) from error
        except ResponseError as error:
            self._refusals.report(logging.WARNING, parts[0], error)
            raise Unavailable(REFUSED) from error

    @property
    def prefix(self) -> str:
        """What the keys of this shard begin with."""
        return self._address.prefix

    async def heartbeat(self, **arguments: Any) -> tuple[int, list[bytes], int]:
        """Renew this node's lease, and verify that the subscription still delivers messages.

        Returns:
            The number of connections registered for this node, the nodes whose lease has ended, and whether the lease
            of this node had ended.
        """
        link = self._link.linked()
        until_s = link.deadline_s
        async with self.replies.expect() as (token, mark):
            count, dead, lapsed = await self.call_on(
                link, "beat", node=self._node.name, mark=token, until_s=until_s, **arguments
            )
            await link.subscription.await_mark(mark, until_s)
        return count, dead, lapsed

    async def stop_node(self) -> None:
        """Let the other nodes know that this one ends on purpose; without Redis they take it for dead."""
        with suppress(Unavailable):
            await self.call("stop", node=self._node.name)

    async def was_stopped(self, node: str) -> bool:
        """Whether a node whose lease has ended was stopped on purpose."""
        return bool(await self.call("was_stopped", node=node) == b"1")

    async def ask(self, operation: str, command: bytes, **receiver: str) -> bytes | None:
        """Send a command to another node, and return its answer; None if no node owns the connection.

        Args:
            operation: the script's: `ask` for the owner of a connection, whose shard this is; `ask_node` for a node.
            receiver: the arguments of the operation that name it.

        Raises:
            OwnerSilent: the node receives nothing.
        """
        async with self.replies.expect() as (token, reply):
            receivers = await self.call(
                operation, node=self._node.name, token=token, blob=command, **receiver
            )
            if receivers < 0:
                return None
            if receivers == 0:
                raise OwnerSilent("The node that has this connection does not answer; try again later.")
            return await asyncio.wait_for(reply, ASK_TIMEOUT_S)
