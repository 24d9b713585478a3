"""Carries out commands on the connections that this node holds, from this node or from another one."""

from collections.abc import Iterable
from typing import assert_never

from channelstream.close_codes import CloseCode
from channelstream.core.connection import Connection
from channelstream.engines.base import Directory
from channelstream.errors import Invalid, Moved
from channelstream.service.commands import Answer, Command, End, Release, Subscribe, Unsubscribe, parse_since
from channelstream.service.limits import NodeLimits
from channelstream.service.local import LocalConnections


class Executing:
    """The commands at a node, each under the lock of its connection's id, which the caller holds."""

    def __init__(self, directory: Directory, local: LocalConnections, limits: NodeLimits) -> None:
        self._directory = directory
        self._local = local
        self._limits = limits

    async def execute(self, connection: Connection, command: Command) -> Answer:
        """Execute a command; `found` is false if the connection has left this node meanwhile.

        Raises:
            Invalid: the command is refused.
            TooManyRequests: the application has no room for more channels here.
            Unavailable: the engine is out of reach.
        """
        try:
            match command:
                case Subscribe():
                    return await self._subscribe(connection, command)
                case Unsubscribe():
                    return _answer(connection, await self._local.leave(connection, command.channels))
                case End():
                    await self._local.end(
                        connection, CloseCode(command.code), command.reason, command.recorded
                    )
                    return _answer(connection, ())
                case Release():
                    return self._release(connection)
                case _:
                    assert_never(command)
        except Moved:
            return Answer(found=False)

    async def _subscribe(self, connection: Connection, asked: Subscribe) -> Answer:
        if asked.reconnect is not None and asked.reconnect.user != connection.user:
            raise Invalid({"conn_id": ["This connection belongs to another user."]})
        new = {name: patch for name, patch in asked.channels.items() if name not in connection.channels}
        self._limits.check_channel_count(len(connection.readable) + len(new))
        self._local.room.check_channels(connection.id, new)
        if asked.reconnect is not None:
            await self._directory.update_user(connection.user, asked.reconnect.read_update())
        await self._local.join(connection, new, parse_since(asked.since))
        if asked.reconnect is not None and connection.stream is None:
            self._local.departures.extend(connection, self._limits.unattached_s)
        return _answer(connection, new)

    def _release(self, connection: Connection) -> Answer:
        sent_apart = dict(connection.sent_apart)
        channels = self._local.forget(connection, CloseCode.REPLACED, "replaced by a stream at another node")
        # After `forget`, which flushes what waits: the next node continues after the last byte written here.
        return Answer(
            found=True,
            channels=sorted(channels),
            delivered=connection.delivered,
            sent_apart=sent_apart,
        )


def _answer(connection: Connection, changed: Iterable[str]) -> Answer:
    return Answer(found=True, channels=sorted(connection.channels), changed=sorted(changed))
