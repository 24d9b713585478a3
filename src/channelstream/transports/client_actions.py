"""What the commands of a client do: each is a use case of `service.ClientService`, and has an outcome."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import assert_never

from channelstream.apps.client import Client
from channelstream.apps.keys import name_of
from channelstream.core.changes import forms_for
from channelstream.core.connection import Connection, Stream
from channelstream.core.entry import Entry
from channelstream.core.log import Replay
from channelstream.core.position import Offsets, Position
from channelstream.errors import BadToken, ChannelstreamError
from channelstream.service import ClientService, Service
from channelstream.transports.member_actions import MemberActions
from channelstream.transports.reading import read_chunk, shard_in
from channelstream.transports.tokens import ClientRules
from channelstream.wire.client_commands import (
    Action,
    Done,
    Info,
    Join,
    Joined,
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

    async def outcome(
        self, command: Action, *, stalled: Stream | None = None, sends: bool = False
    ) -> Outcome:
        """Carry out a command; an error of the client is an outcome, too.

        Args:
            stalled: its stream, which reads the log afterwards (`starts`); None if it has none, or goes on.
            sends: the caller sends what a subscription has missed (`Subscribed.missed`), if this stream is still open.
        """
        try:
            return await self._carry_out(command, stalled, sends)
        except ChannelstreamError as error:
            return error

    def check_token(self) -> None:
        """Refuse a client whose token has expired since it was checked, or was revoked.

        Raises:
            BadToken: it is not accepted any more.
        """
        if self._rules.tokens is not None:
            self._rules.tokens.check_again(self._granted.client)

    def starts(self, outcome: Outcome) -> dict[str, int]:
        """Return the offsets after which the stalled stream reads the channels that were joined from a position."""
        recovered = outcome.recovered if isinstance(outcome, Subscribed) else ()
        channels = self._connection.channels
        keys = map(self._service.app.key, recovered)
        return {key: channels[key].since for key in keys if key in channels}

    def members_at(self, command: Action, outcome: Outcome) -> dict[str, int]:
        """Return the offset up to which a client that has joined a channel knows its members (`reading.Change`)."""
        if isinstance(command, Join) and isinstance(outcome, Joined) and outcome.offset is not None:
            return {self._service.app.key(command.channel): outcome.offset}
        return {}

    async def _carry_out(self, command: Action, stalled: Stream | None, sends: bool) -> Outcome:
        granted = self._granted
        if isinstance(command, Membership):
            return await MemberActions(self._service, self._connection).carry_out(command)
        granted.count_command()
        match command:
            case Subscribe():
                return await self._subscribe(command, stalled, sends)
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

    async def _subscribe(self, command: Subscribe, stalled: Stream | None, sends: bool) -> Outcome:
        done = await self._granted.subscribe(command.channels, command.since)
        asked = [name for name in done.changed if command.since.get(name)]
        recovered, missed = await self._missed(asked, stalled, sends) if asked else ((), ())
        lost = [name for name in asked if name not in recovered]
        return Subscribed(
            tuple(done.changed), tuple(done.channels), tuple(recovered), tuple(lost), tuple(missed)
        )

    async def _missed(
        self, names: Iterable[str], stalled: Stream | None, sends: bool
    ) -> tuple[list[str], Sequence[Entry]]:
        """Return those of the joined channels that can be recovered, and what is to be sent of them at once.

        That is what they have had up to the position of the stream, which never goes back. The rest is read from the log,
        by the stalled stream or, if there is none, by the next. Where nobody does that, or sends these events, a channel
        that has some is lost.
        """
        connection, node = self._connection, self._service.node
        keys = {self._service.app.key(name): name for name in names}
        known = {key: connection.channels[key].since for key in keys if key in connection.channels}
        begins = {key: since for key, since in known.items() if since >= 0}
        number = node.hub.changes.number
        replay = await read_chunk(node, connection, begins)
        changes = node.hub.changes.after(number)
        # After the last wait: another stream, which does not know of these channels, may have opened meanwhile.
        reads_on = connection.stream in (stalled, None)
        until = connection.delivered if reads_on else node.hub.offsets
        begins = {
            key: since
            for key, since in begins.items()
            if key not in replay.lost and key in connection.channels
        }
        if changes is None or not _reaches(connection, replay, begins, until):
            return [], ()
        found = list(_received(connection, replay.entries, begins, until))
        newer = [each for each in changes if each.offset > replay.head[each.shard]]
        missed, recovered = forms_for(connection.user, found, newer), set(begins)
        if not sends or connection.stream is not stalled:
            recovered -= {entry.event.channel for entry in missed}
            missed = ()
        if sum(each.size for each in missed) > MISSED_BYTES:
            return [], ()
        return sorted(keys[key] for key in recovered), _moved_to(
            Position(node.position.epochs, until), missed
        )

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


def _reaches(connection: Connection, replay: Replay, keys: Iterable[str], until: Offsets) -> bool:
    """Whether a read has all of these channels up to the offsets `until`."""
    shards = {shard_in(connection, key) for key in keys}
    return all(replay.read_to[shard] >= until[shard] for shard in shards)


def _moved_to(position: Position, entries: Iterable[Entry]) -> list[Entry]:
    """Return an entry for each item of the entries, with the position of a stream and not its own."""
    return [
        Entry(each.offset, position.epochs, each.at_s, each.event, entry.shard, position.offsets)
        for entry in entries
        for each in entry.split()
    ]


def _received(
    connection: Connection, entries: Iterable[Entry], begins: Mapping[str, int], until: Offsets
) -> Iterator[Entry]:
    """Yield the entries that a connection receives of some channels.

    Args:
        begins: the offset after which each of these channels may be read.
        until: the offsets up to which they are.
    """
    for entry in entries:
        begin = begins.get(entry.event.channel or "")
        if begin is not None and entry.offset <= until[entry.shard] and connection.receives(entry.event):
            yield entry.after(begin).for_user(connection.user)
