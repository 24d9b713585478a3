"""Connections that other nodes hold: brought here when a stream opens, and reached by commands until then."""

import asyncio
from contextlib import suppress

from channelstream.core.connection import Connection
from channelstream.engines.base import Engine
from channelstream.errors import CloseCode, Invalid, Moved, Replaced, Unavailable
from channelstream.node.commands import Answer, Command, Release, encode, read_answer, read_command
from channelstream.node.local import LocalConnections

PAUSES_S = (0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""How long to wait, time after time, for a connection that is between two nodes."""


class Handover:
    """What nodes ask of each other about connections."""

    def __init__(self, engine: Engine, held: LocalConnections) -> None:
        self._engine = engine
        self._local = held
        self._claiming: set[str] = set()
        self._overtaken: set[str] = set()

    async def take_over(self, conn_id: str) -> Connection | None:
        """Hold the connection here, wherever it was until now; None if it is unknown.

        Raises:
            Unavailable: the engine is out of reach.
        """
        if self._local.get(conn_id) and not self._engine.owns(conn_id):
            await self._engine.confirm_ownership(conn_id)
        if (here := self._local.get(conn_id)) or not self._engine.shared:
            return here
        async with self._local.locks.of(conn_id):
            return self._local.get(conn_id) or await self._claim(conn_id, orphan=False)

    async def _claim(self, conn_id: str, orphan: bool) -> Connection | None:
        """Claim a connection and hold it here; None if it is unknown.

        Args:
            orphan: only if the node that held it has died.

        Raises:
            Moved: it is held by a living node, and only an orphan was wanted.
            Replaced: while it was claimed, yet another node has claimed it.
        """
        taken_over: Answer | None = None

        async def leave() -> None:
            nonlocal taken_over
            if not orphan:
                with suppress(Unavailable):  # A node that does not answer loses the connection all the same.
                    taken_over = await self._ask_while_moving(Release(conn_id))
            self._claiming.add(conn_id)

        try:
            claim = await self._engine.claim(conn_id, orphan, leave)
            if conn_id in self._overtaken:
                raise Replaced("replaced by a stream at another node")
        finally:
            self._claiming.discard(conn_id)
            self._overtaken.discard(conn_id)
        if claim is None:
            return None
        connection = self._local.make(conn_id, claim.member.user, claim.member.dialect)
        connection.delivered = taken_over.delivered if taken_over else claim.offsets
        self._local.restore_subscriptions(connection, claim.channels, claim.private)
        if taken_over:
            forgotten = [name for name in taken_over.channels if name not in claim.channels]
            await self._local.join_again(connection, forgotten)
        elif not claim.is_whole:
            await self._local.disconnect(
                connection, CloseCode.UNKNOWN_CONNECTION, "its channels are not known any more"
            )
            return None
        return connection

    async def done(self, command: Command) -> Answer | None:
        """Have a command done wherever its connection is; None if there is none of that id."""
        for pause_s in PAUSES_S:
            answer = await self._done(command)
            if answer is None or answer.held:
                return answer
            await asyncio.sleep(pause_s)
        raise Moved

    async def _done(self, command: Command) -> Answer | None:
        """Have a command done by the node that seems to hold its connection; the answer says whether it does."""
        if self._local.get(command.conn_id) is None:
            if not self._engine.shared:
                return None
            # Without the turn of its id: that node may ask this one at the same time.
            answer = read_answer(await self._engine.ask(command.conn_id, encode(command)))
            if answer is not None:
                return answer
        async with self._local.locks.of(command.conn_id):
            connection = self._local.get(command.conn_id)
            if connection is None and self._engine.shared:
                # Its node has died: whoever needs the connection takes it over.
                try:
                    connection = await self._claim(command.conn_id, orphan=True)
                except (Moved, Replaced):
                    return Answer(held=False)
            return None if connection is None else await self._local.do(connection, command)

    async def _ask_while_moving(self, command: Command) -> Answer | None:
        for pause_s in PAUSES_S:
            answer = read_answer(await self._engine.ask(command.conn_id, encode(command)))
            if answer is None or answer.held:
                return answer
            await asyncio.sleep(pause_s)
        return None

    async def execute(self, command: bytes) -> bytes:
        """Do what another node asks, if the connection is held here."""
        asked = read_command(command)
        # Who is just fetching it has the turn of its id, and may wait for the node that asks.
        if self._local.get(asked.conn_id) is None:
            return encode(Answer(held=False))
        async with self._local.locks.of(asked.conn_id):
            return encode(await self._executed(asked))

    async def _executed(self, asked: Command) -> Answer:
        connection = self._local.get(asked.conn_id)
        if connection is None:
            return Answer(held=False)
        try:
            return await self._local.do(connection, asked)
        except Invalid as error:
            return Answer(held=True, faults=error.faults)

    def taken_over(self, conn_id: str) -> None:
        """Hear that another node has taken over a connection."""
        connection = self._local.get(conn_id)
        if connection is not None:
            self._local.forget(connection, CloseCode.REPLACED, "replaced by a stream at another node")
        elif conn_id in self._claiming:
            self._overtaken.add(conn_id)
