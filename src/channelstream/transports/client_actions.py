"""What the commands of a client do: each is a use case of `service.ClientService`, and has an outcome."""

from collections.abc import Callable, Iterable
from typing import assert_never

from channelstream.apps.client import Client
from channelstream.apps.keys import name_of
from channelstream.core.connection import Connection, ConnectionState
from channelstream.core.entry import Entry
from channelstream.core.position import Position
from channelstream.errors import BadToken, ChannelstreamError
from channelstream.service import ClientService, Service
from channelstream.transports.member_actions import MemberActions
from channelstream.transports.reading import read_chunk
from channelstream.transports.tokens import ClientRules
from channelstream.wire.client_commands import (
    Action,
    Done,
    Info,
    Membership,
    Outcome,
    Publish,
    Refresh,
    SetState,
    Subscribe,
    Subscribed,
    Unsubscribe,
)

MISSED_BYTES = 262_144
"""Most bytes of the events that the answer to a subscription repeats; a client that lacks more loads the history."""


class ClientActions:
    """The commands of one client, on its connection.

    Args:
        service: of the client's application.
        connection: at this node.
        client: as its token says.
        rules: of clients with tokens.
        admit: called with the client that a fresh token describes, which takes the place of this one.
    """

    def __init__(
        self,
        service: Service,
        connection: Connection,
        client: Client,
        rules: ClientRules,
        admit: Callable[[Client], None],
    ) -> None:
        self._service = service
        self._connection = connection
        self._rules = rules
        self._admit = admit
        self._granted = self._of(client)

    def _of(self, client: Client) -> ClientService:
        sets_state = self._service.app.id in self._rules.setting_state
        return ClientService(self._service, client, name_of(self._connection.id), sets_state=sets_state)

    async def outcome(self, command: Action) -> Outcome:
        """Carry out a command; an error of the client is an outcome, too."""
        try:
            return await self._carry_out(command)
        except ChannelstreamError as error:
            return error

    async def _carry_out(self, command: Action) -> Outcome:
        granted = self._granted
        if isinstance(command, Membership):
            return await MemberActions(self._service, self._connection).carry_out(command)
        granted.count_command()
        match command:
            case Subscribe():
                return await self._subscribe(command)
            case Unsubscribe():
                done = await granted.unsubscribe(command.channels)
                return Done({"channels": done.channels, "unsubscribed": done.changed})
            case Publish():
                accepted = await granted.publish(command.channel, command.payload, command.uuid)
                return Done({"uuid": accepted.event.uuid, "duplicate": accepted.duplicate})
            case SetState():
                return Done({"changed": await granted.set_state(command.values)})
            case Info():
                return Done(await granted.info(command.channels, self._rules.describe))
            case Refresh():
                return await self._refresh(command)
            case _:
                assert_never(command)

    async def _subscribe(self, command: Subscribe) -> Outcome:
        done = await self._granted.subscribe(command.channels, command.since)
        asked = [name for name in done.changed if command.since.get(name)]
        recovered, missed = await self._missed(asked) if asked else ((), ())
        lost = [name for name in asked if name not in recovered]
        return Subscribed(
            tuple(done.changed), tuple(done.channels), tuple(recovered), tuple(lost), tuple(missed)
        )

    async def _missed(self, names: Iterable[str]) -> tuple[list[str], list[Entry]]:
        """Return those of the joined channels that can be recovered at once, and what they have had.

        Only what was there before they were joined: the stream reads the rest.
        """
        connection, node = self._connection, self._service.node
        keys = {self._service.app.key(name): name for name in names}
        ranges = {
            key: connection.channels[key]
            for key in keys
            if key in connection.channels and connection.channels[key].since >= 0
        }
        replay = await read_chunk(node, connection, {key: each.since for key, each in ranges.items()})
        recovered = ranges.keys() - replay.lost
        entries = [
            each.for_user(connection.user)
            for each in replay.entries
            if (key := each.event.channel) in recovered
            and each.offset <= ranges[key].joined
            and connection.receives(each.event)
        ]
        if replay.read_to != replay.head or sum(each.size for each in entries) > MISSED_BYTES:
            return [], []
        # Of what its stream was sent: a client that keeps it must not go back.
        is_live = connection.state is ConnectionState.LIVE
        delivered = node.hub.offsets if is_live else connection.delivered
        position = str(Position(node.position.epochs, delivered))
        return sorted(keys[key] for key in recovered), [
            Entry(each.offset, position, each.at_s, each.event, each.shard, delivered) for each in entries
        ]

    async def _refresh(self, command: Refresh) -> Outcome:
        before, tokens = self._granted.client, self._rules.tokens
        if tokens is None:
            raise BadToken
        fresh = await tokens.client(command.token, before.app)
        if fresh.user != before.user:
            raise BadToken("The token is another user's.")
        self._granted = self._of(fresh)
        self._admit(fresh)
        left = await self._granted.leave_ungranted([*map(name_of, self._connection.channels)])
        done = await self._granted.join_named()
        seconds = int(fresh.left_s(self._service.clock.wall()))
        return Done({"channels": done.channels, "expires_in": seconds}, tuple(left))
