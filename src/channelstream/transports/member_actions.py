"""What clients do in channels to which their protocol has admitted them, by names that count there only.

Their session has checked what the application has signed, so nothing is asked of grants here.
"""

from contextlib import suppress
from typing import assert_never

from channelstream.apps.keys import name_of
from channelstream.core.connection import Connection
from channelstream.core.events import Message
from channelstream.core.timestamps import stamp
from channelstream.core.user import State
from channelstream.errors import ChannelstreamError, Unauthorized
from channelstream.service import LastMessages, Memberships, Service
from channelstream.service.last_messages import KeptMessage
from channelstream.wire.client_commands import Done, Join, Joined, Leave, Membership, Outcome, Relay, SignIn


class MemberActions:
    """The commands of one client, on its connection at this node."""

    def __init__(self, service: Service, connection: Connection) -> None:
        self._service = service
        self._memberships = Memberships(service)
        self._last_messages = LastMessages(service)
        self._conn_id = name_of(connection.id)
        self._user = name_of(connection.user)
        self._connection = connection

    async def carry_out(self, command: Membership) -> Outcome:
        """Carry out a command.

        Raises:
            ChannelstreamError: it is refused, or failed.
        """
        match command:
            case Join():
                return await self._join(command)
            case Leave():
                return await self._leave(command)
            case Relay():
                return await self._relay(command)
            case SignIn():
                await self._enter(command.channel)
                return Done({})
            case _:
                assert_never(command)

    async def _join(self, command: Join) -> Joined:
        if command.member is None:
            # A stranger may name channels without end; members show what their application has signed.
            await self._service.check_new_channels(self._user, [command.channel])
            if not command.is_granted:
                # A stranger may also open lines without end, each of which is a user of its own.
                client = self._connection.client
                await self._service.check_new_channels_of(client.address if client else "", [command.channel])
            await self._enter(command.channel)
        else:
            found = await self._memberships.join_as(
                self._conn_id, command.channel, command.member, command.member_state
            )
            _check(found)
        try:
            return await self._learn(command)
        except ChannelstreamError:
            # The client is answered that it is not in the channel: the others must not see it there either.
            with suppress(ChannelstreamError):
                await self._leave(Leave(command.channel, command.ref, command.member))
            raise

    async def _learn(self, command: Join) -> Joined:
        """Return what is in a channel that the client has joined."""
        members: dict[str, State] = {}
        offset = None
        if command.member is not None:
            members, offset = await self._memberships.members(command.channel)
        if not command.last_s:
            return Joined(members, offset=offset)
        kept = await self._last_messages.of(command.channel, command.last_s)
        if kept is None:
            self._last_messages.report_missed(command.channel)
            return Joined(members, misses_last=True, offset=offset)
        last = None if self._follows_join(kept, self._service.app.key(command.channel)) else kept.message
        return Joined(members, last, offset=offset)

    def _follows_join(self, kept: KeptMessage, channel: str) -> bool:
        """Whether the client's stream, which goes on after the answer, sends it this message of a channel."""
        connection, read_range = self._connection, self._connection.readable.get(channel)
        if read_range is None:
            return False
        start = max(read_range.joined, connection.delivered[kept.shard])
        return kept.offset > start and connection.receives(kept.message)

    async def _enter(self, channel: str) -> None:
        _check(await self._service.subscribe(self._conn_id, {channel: {}}))

    async def _leave(self, command: Leave) -> Done:
        if command.member is None:
            _check(await self._service.unsubscribe(self._conn_id, [command.channel]))
        else:
            _check(await self._memberships.leave(self._conn_id, command.channel))
        return Done({})

    async def _relay(self, command: Relay) -> Done:
        message = Message(
            uuid=self._service.new_id(),
            channel=command.channel,
            user=command.member or "",
            payload=command.payload,
            timestamp=stamp(self._service.clock.wall()),
            no_history=not command.is_kept,
            exclude_connection=self._conn_id,
        )
        await self._service.publish([message])
        self._memberships.report_event(
            command.channel, command.event, command.data, command.socket, command.member
        )
        return Done({})


def _check(found: object) -> None:
    if found is None:
        raise Unauthorized("This connection has ended.")
