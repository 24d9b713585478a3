"""Moves connections to this node when their stream opens here, and sends commands to the node that holds them.

Invariant: at most one node owns a connection, and only the owner writes to its stream. The engine's directory names the
owner, and `Engine.claim` changes that entry atomically. The steps before and after the claim make a move lossless:

- The claiming node first asks the owner to `Release` the connection. The answer has the offsets up to which the client
  was sent everything, and the new stream continues there. If the owner does not answer, it loses the connection all the
  same: only the directory's entry decides who owns it. The stream then continues at an older position that is certain.
  The client may be sent some events again, and misses none.
- Between release and claim no node holds the connection. A command that arrives in this gap finds the connection at
  neither node. It is retried for about 1.6 s (`RETRY_DELAYS_S`), then answered with 503. Commands are not queued at the
  directory: that would slow down every command, even for connections that never move.
- Two nodes may claim at once, when a client reconnects quickly through a load balancer. The directory gives the
  connection to both, one after the other. The first node may receive the notice of the second claim before its own
  `claim` call returns. At that time it has no connection object to remove yet. So `_overtaken` keeps the notice, and
  the first node then closes its stream (4002): the connection never has two open streams.

Deadlock: each node has its own lock for each id (`locks.py`). Two nodes may both hold their lock of the same id, and
ask each other about it. So a command is sent to another node without the lock, and a node that does not hold the
connection answers "not found" without waiting for its own lock. Only `Release` is sent while its sender holds the lock.
That is safe: the sender does not hold the connection, so no other node waits for the sender's lock.
"""

import asyncio
from contextlib import suppress

from channelstream.core.connection import Connection
from channelstream.engines.base import Engine
from channelstream.errors import CloseCode, Invalid, Moved, Replaced, Unavailable
from channelstream.node.commands import Answer, Command, Release, encode, read_answer, read_command
from channelstream.node.local import LocalConnections

RETRY_DELAYS_S = (0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Pauses before the retries of a command whose connection is between two nodes, in seconds."""


class Handover:
    """Ownership of connections among the nodes that share an engine."""

    def __init__(self, engine: Engine, local: LocalConnections) -> None:
        self._engine = engine
        self._local = local
        self._claiming: set[str] = set()
        self._overtaken: set[str] = set()

    async def take_over(self, conn_id: str) -> Connection | None:
        """Return the connection, owned by this node from now on; None if it is unknown.

        Raises:
            Unavailable: the engine is out of reach.
            Replaced: another node has claimed the connection meanwhile.
        """
        if self._local.get(conn_id) and not self._engine.owns(conn_id):
            await self._engine.confirm_ownership(conn_id)
        if (here := self._local.get(conn_id)) or not self._engine.shared:
            return here
        async with self._local.locks.of(conn_id):
            # Another stream of the connection may have been opened here while this one waited for the lock.
            return self._local.get(conn_id) or await self._claim(conn_id, orphan=False)

    async def _claim(self, conn_id: str, orphan: bool) -> Connection | None:
        """Claim a connection and hold it here; return None if it is unknown. The caller holds the lock of its id.

        Args:
            orphan: claim it only if the node that owns it has died.

        Raises:
            Moved: a living node owns it, and `orphan` was given. Replaced: while this node claimed it, another one has
            claimed it, too.
        """
        released: Answer | None = None

        async def release() -> None:
            nonlocal released
            if not orphan:
                # An owner that does not answer loses the connection all the same.
                with suppress(Unavailable):
                    released = await self._ask_owner(Release(conn_id))
            # From here on this node may become the owner, and lose the connection again before `claim` returns.
            self._claiming.add(conn_id)

        try:
            claim = await self._engine.claim(conn_id, orphan, release)
            if conn_id in self._overtaken:
                raise Replaced("replaced by a stream at another node")
        finally:
            self._claiming.discard(conn_id)
            self._overtaken.discard(conn_id)
        if claim is None:
            return None
        connection = self._local.make(conn_id, claim.member.user, claim.member.dialect)
        connection.delivered = released.delivered if released else claim.offsets
        self._local.restore_subscriptions(connection, claim.channels, claim.private)
        if released:
            # A shard may have lost the registrations of these channels; the former owner's answer still lists them.
            forgotten = [name for name in released.channels if name not in claim.channels]
            await self._local.join_again(connection, forgotten)
        elif not claim.is_whole:
            await self._local.disconnect(
                connection, CloseCode.UNKNOWN_CONNECTION, "its channels are no longer known"
            )
            return None
        return connection

    async def dispatch(self, command: Command) -> Answer | None:
        """Execute a command at the node that holds its connection; return None if no node holds it.

        Raises:
            Invalid: the command is refused. Moved: the connection was between two nodes until the last retry.
            Unavailable: the engine, or the owner, is out of reach.
        """
        for delay_s in RETRY_DELAYS_S:
            answer = await self._dispatch_once(command)
            if answer is None or answer.found:
                return answer
            await asyncio.sleep(delay_s)
        raise Moved

    async def _dispatch_once(self, command: Command) -> Answer | None:
        """Execute a command at the node that seems to hold its connection. `Answer.found` says whether that node held it."""
        if self._local.get(command.conn_id) is None:
            if not self._engine.shared:
                return None
            # Ask without the lock: the owner may ask this node at the same time (see Deadlock above).
            answer = read_answer(await self._engine.ask(command.conn_id, encode(command)))
            if answer is not None:
                return answer
        async with self._local.locks.of(command.conn_id):
            # The connection may have moved here, or away, while this waited for the answer or for the lock.
            connection = self._local.get(command.conn_id)
            if connection is None and self._engine.shared:
                # No living node has answered for it: if its owner has died, this node takes it over.
                try:
                    connection = await self._claim(command.conn_id, orphan=True)
                except (Moved, Replaced):
                    return Answer(found=False)
            return None if connection is None else await self._local.execute(connection, command)

    async def _ask_owner(self, command: Command) -> Answer | None:
        """Ask the owner, and ask again while the connection is between two nodes; return None if no living node has it."""
        for delay_s in RETRY_DELAYS_S:
            answer = read_answer(await self._engine.ask(command.conn_id, encode(command)))
            if answer is None or answer.found:
                return answer
            await asyncio.sleep(delay_s)
        return None

    async def execute(self, data: bytes) -> bytes:
        """Execute the encoded command of another node, if this node holds the connection; return the encoded answer."""
        command = read_command(data)
        # Check this without the lock: a task of this node that is claiming the connection may hold the lock while it
        # waits for the node that asks.
        if self._local.get(command.conn_id) is None:
            return encode(Answer(found=False))
        async with self._local.locks.of(command.conn_id):
            return encode(await self._execute_local(command))

    async def _execute_local(self, command: Command) -> Answer:
        connection = self._local.get(command.conn_id)
        if connection is None:
            return Answer(found=False)  # The connection ended or moved while this waited for the lock.
        try:
            return await self._local.execute(connection, command)
        except Invalid as error:
            return Answer(found=True, faults=error.faults)

    def taken_over(self, conn_id: str) -> None:
        """Forget a connection that another node has claimed.

        If this node is claiming it too, keep the notice for that claim.
        """
        connection = self._local.get(conn_id)
        if connection is not None:
            self._local.forget(connection, CloseCode.REPLACED, "replaced by a stream at another node")
        elif conn_id in self._claiming:
            self._overtaken.add(conn_id)
