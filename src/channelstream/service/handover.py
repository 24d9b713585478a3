"""Moves connections to this node when their stream opens here, and sends commands to the right node.

Two terms: the engine's directory records which node owns each connection. A node holds a connection if it has
the connection in its memory.

Invariant: at most one node owns a connection, and only the owner writes to its stream. `Cluster.claim` changes
the entry in the directory atomically. The steps before and after the claim make a move lossless:

- The claiming node first sends `Release` to the owner. The answer has the offsets up to which the client was
  sent everything, and the new stream continues there. An owner that hands over to a new process receives
  nothing for a moment, so the command is repeated. If the owner does not answer, it loses the connection
  all the same: only the directory's entry decides who owns the connection. The new stream then begins at the
  offsets that `claim` returns. In each shard this is no later than where the connection first joined one of
  its present channels. So the client may be sent some events again, but misses none.
- Between the release and the claim no node holds the connection. A command that arrives in this gap finds the
  connection at neither node. The command is retried for about 1.6 s (`RETRY_DELAYS_S`), then answered with
  503. The alternative is to queue commands at the directory. That would slow down every command, even for
  connections that never move.
- Two nodes may claim a connection at the same time, when its client reconnects quickly through a load
  balancer. The directory gives the connection to the first node, then to the second. The notice of the second
  claim may reach the first node before its own call of `claim` returns. At that time the first node has no
  connection object to remove yet. So `_overtaken` keeps the notice. When `claim` returns, the first node
  closes its stream (4002). So the connection never has two open streams.

Deadlock: each node has its own lock for each connection id (`locks.py`). Two nodes may hold their locks of
the same id at the same time, and send each other commands about it. If each command waited for the lock at
the other node, neither node would continue. So a node sends commands without holding its lock. A node that
does not hold the connection answers "not found" without waiting for its lock. Only `Release` is sent while
its sender holds the lock. That is safe: the sender does not hold the connection, so it answers commands about
the connection at once.
"""

import asyncio
from contextlib import suppress

from channelstream.close_codes import CloseCode
from channelstream.core.connection import Connection
from channelstream.engines.cluster import Claim, Cluster, OwnerSilent
from channelstream.errors import Invalid, Moved, Replaced, TooManyRequests, Unavailable
from channelstream.service.commands import Answer, Command, Release, encode, read_answer
from channelstream.service.executing import Executing
from channelstream.service.local import LocalConnections
from channelstream.service.turns import Turn, Turns

CLAIMS_AT_ONCE = 6
"""Connections that move here at once for streams that open.

With `READS_AT_ONCE` of `stream_reads.py` this is enough to keep Redis busy, and few enough that another call does not wait
long. Moves have the larger number, because they have a time limit, which reads do not have: the connections of a stopped
node are unregistered `node_lease_s` after its end.
"""
RETRY_DELAYS_S = (0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Pauses before the retries of a command whose connection is between two nodes, in seconds."""

SILENT_DELAY_S = 0.1
"""The longest of these pauses while the owner receives nothing, as in its upgrade.

A request that pauses here also holds up an upgrade of this node, which waits for requests, `upgrade_pause_s` at most.
"""


class Handover:
    """Ownership of connections among the nodes that share an engine."""

    def __init__(self, cluster: Cluster, local: LocalConnections, executing: Executing) -> None:
        self._cluster = cluster
        self._local = local
        self._executing = executing
        self._claiming: set[str] = set()
        self._overtaken: set[str] = set()
        self._turns = Turns(CLAIMS_AT_ONCE)
        self._is_owner_silent = False

    async def take_over(self, conn_id: str) -> Connection | None:
        """Return the connection, which this node owns from now on; None if the connection is unknown.

        Raises:
            Unavailable: the engine is out of reach.
            Replaced: another node has claimed the connection meanwhile.
        """
        if self._local.get(conn_id) and not self._cluster.owns(conn_id):
            await self._cluster.confirm_ownership(conn_id)
        if (here := self._local.get(conn_id)) or self._cluster.is_single:
            return here
        async with self._turns.turn() as turn, self._local.locks.of(conn_id):
            # Another stream of the connection may have been opened here while this one waited.
            return self._local.get(conn_id) or await self._claim(conn_id, turn)

    async def _claim(self, conn_id: str, turn: Turn | None) -> Connection | None:
        """Claim a connection and hold it here; return None if it is unknown.

        The caller holds the lock of the connection's id.

        Args:
            turn: that of a stream that opens; None means to claim the connection only if its owner has died.

        Raises:
            Moved: no turn was given, and a living node owns the connection.
            Replaced: another node has claimed the connection while this node was claiming it.
        """
        released: Answer | None = None

        async def release() -> None:
            nonlocal released
            if turn is not None:
                released = await self._ask_release(conn_id, turn)
            # From here on this node may become the owner, and lose the connection again before `claim`
            # returns. So `taken_over` keeps a notice of that.
            self._claiming.add(conn_id)

        try:
            claim = await self._cluster.claim(conn_id, turn is None, release)
            if conn_id in self._overtaken:
                raise Replaced("replaced by a stream at another node")
        finally:
            self._claiming.discard(conn_id)
            self._overtaken.discard(conn_id)
        return None if claim is None else await self._hold(conn_id, claim, released)

    async def _hold(self, conn_id: str, claim: Claim, released: Answer | None) -> Connection | None:
        """Hold a connection that this node has claimed; return None if it has ended, since its channels are not known.

        Args:
            released: the answer of the former owner; None if it gave none.
        """
        connection = self._local.make(conn_id, claim.member.user, claim.member.protocol)
        connection.delivered = released.delivered if released else claim.offsets
        if released and released.sent_apart:
            connection.sent_apart = released.sent_apart
        self._local.restore_subscriptions(connection, claim.channels, claim.private)
        if released:
            # A shard may have lost the registrations of some channels. The former owner's answer still lists
            # these channels.
            forgotten = [name for name in released.channels if name not in claim.channels]
            await self._local.join_again(connection, forgotten)
        elif not claim.is_whole:
            await self._local.disconnect(
                connection, CloseCode.UNKNOWN_CONNECTION, "its channels are no longer known"
            )
            return None
        return connection

    async def dispatch(self, command: Command) -> Answer | None:
        """Execute a command at the node that holds its connection; return None if no node does.

        Raises:
            Invalid: the command is refused.
            Moved: the connection was between two nodes until the last retry.
            Unavailable: the engine is out of reach, or the owner does not answer.
        """
        delays_s = iter(RETRY_DELAYS_S)
        while (answer := await self._dispatch_once(command)) is not None and not answer.found:
            if (delay_s := next(delays_s, None)) is None:
                raise Moved
            await asyncio.sleep(delay_s)
        return answer

    async def _dispatch_once(self, command: Command) -> Answer | None:
        """Execute a command once, at the node that seems to hold the connection.

        `Answer.found` says whether that node held the connection. Return None if no node holds it.
        """
        if self._local.get(command.conn_id) is None:
            if self._cluster.is_single:
                return None
            # Ask without the lock: the owner may ask this node at the same time (see Deadlock above).
            with suppress(OwnerSilent):
                answer = read_answer(await self._cluster.ask(command.conn_id, encode(command)))
                if answer is not None:
                    return answer
        async with self._local.locks.of(command.conn_id):
            # The connection may have moved here, or away, while this waited for the answer or for the lock.
            connection = self._local.get(command.conn_id)
            if connection is None and not self._cluster.is_single:
                # This node does not hold the connection, and no other node has answered for it. Claim it if
                # its owner has died. If the owner lives, `claim` raises `Moved`.
                try:
                    connection = await self._claim(command.conn_id, None)
                except (Moved, Replaced):
                    return Answer(found=False)
            return None if connection is None else await self._executing.execute(connection, command)

    async def _ask_release(self, conn_id: str, turn: Turn) -> Answer | None:
        """Return the answer of the owner; None if it does not answer: it loses the connection all the same.

        Waiting for a silent node needs no turn. So after an owner was silent, the turn is given to others before the next
        owner is asked.
        """
        if self._is_owner_silent:
            turn.end()
        try:
            released = await self._ask_owner(Release(conn_id))
        except Unavailable:
            self._is_owner_silent = True
            return None
        self._is_owner_silent = False
        return released

    async def _ask_owner(self, command: Command) -> Answer | None:
        """Send a command to the owner, and repeat it while the connection is between two nodes.

        Return None if no node has the connection, or if it is between two nodes until the last retry.

        Raises:
            OwnerSilent: the owner receives nothing, until the last retry or since an earlier call.
            Unavailable: the engine is out of reach, or the owner does not answer.
        """
        delays_s = iter(RETRY_DELAYS_S)
        while True:
            try:
                answer = read_answer(await self._cluster.ask(command.conn_id, encode(command)))
            except OwnerSilent:
                if self._is_owner_silent or (delay_s := next(delays_s, None)) is None:
                    raise
                await asyncio.sleep(min(delay_s, SILENT_DELAY_S))
                continue
            if answer is None or answer.found:
                return answer
            if (delay_s := next(delays_s, None)) is None:
                return None
            await asyncio.sleep(delay_s)

    async def execute(self, command: Command) -> Answer:
        """Execute a command of another node; `Answer.found` says whether this node holds the connection."""
        # Check this without the lock: a task of this node may be claiming the connection. That task holds the
        # lock while it waits for the node that asks.
        if self._local.get(command.conn_id) is None:
            return Answer(found=False)
        async with self._local.locks.of(command.conn_id):
            return await self._execute_local(command)

    async def _execute_local(self, command: Command) -> Answer:
        connection = self._local.get(command.conn_id)
        if connection is None:
            return Answer(found=False)  # The connection ended or moved while this waited for the lock.
        try:
            return await self._executing.execute(connection, command)
        except Invalid as error:
            return Answer(found=True, faults=error.faults)
        except TooManyRequests as error:
            return Answer(found=True, limit=error.message)

    def taken_over(self, conn_id: str) -> None:
        """Forget a connection that another node has claimed.

        If this node is claiming the connection at this moment, keep the notice for that claim.
        """
        connection = self._local.find(conn_id)
        if connection is not None:
            self._local.forget(connection, CloseCode.REPLACED, "replaced by a stream at another node")
        elif conn_id in self._claiming:
            self._overtaken.add(conn_id)
