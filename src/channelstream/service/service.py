"""The use cases of one application on this node, for the API, the transports and the admin pages.

A service takes names, and makes the keys (`apps.keys`) under which the node and the engine know them. So an application
reaches only what is its own: no name that it can write has the key of another application. Everything that asks for all
channels, users or connections gets those of the application.

Results that only list names (`Opened`, `Subscriptions`, `members`) have names. The objects of the domain, such as channels,
users, connections and events, hold keys, since they are shared and most of them are never shown: `apps.keys.name_of`
returns the name where one is written. On the way of an event that is the wire format, once for each batch.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

from msgspec.structs import replace

from channelstream.apps.app import App
from channelstream.apps.keys import is_member_key, name_of
from channelstream.close_codes import CloseCode
from channelstream.core.accepted import Accepted
from channelstream.core.addresses import source_of
from channelstream.core.channel import Channel
from channelstream.core.client_protocol import ClientProtocol
from channelstream.core.connection import Connection
from channelstream.core.endings import Ending
from channelstream.core.events import Message, MessageDeleted, MessageEdited
from channelstream.core.position import Position
from channelstream.core.seat import holder_id
from channelstream.core.user import User, UserChange, UserUpdate
from channelstream.engines.members import Member
from channelstream.service.backpressure import next_round
from channelstream.service.client_rates import ClientRates
from channelstream.service.commands import Answer
from channelstream.service.connecting import Channels, Opened
from channelstream.service.key_rates import KeyRates
from channelstream.service.new_channels import OF_ADDRESS, NewChannels
from channelstream.service.node import Node
from channelstream.service.rates import Rates
from channelstream.service.room import Limit
from channelstream.slices import Slices, in_turns, turn_for

Patches = Mapping[str, Mapping[str, Any]]
"""Settings by channel."""
T = TypeVar("T")
E = TypeVar("E", bound=Message | MessageEdited | MessageDeleted)
_NAME = attrgetter("name")

KEYS_SLICE = 5_000
"""Keys that are made or read in one loop turn: 1 to 2 ms, at 0.2 to 0.4 us each (measured)."""

SHARED_KEYS = 10_000
"""Keys of channels that are remembered, those that were asked for last, so that equal ones are one object."""

KEYED_AT_ONCE = 5
"""Messages whose names get keys between two looks at the clock: each may have very many recipients."""


class Subscriptions(NamedTuple):
    """The channels of a connection after a change: all of them, and those that changed, sorted."""

    channels: list[str]
    changed: list[str]


class Service:
    """One application on one node.

    Attributes:
        published: messages that were accepted since the start, without duplicates.
    """

    def __init__(self, app: App, node: Node) -> None:
        self.app = app
        self.node = node
        self.clock = node.clock
        self.new_id = node.new_id
        self.published = 0
        self.rates = Rates(app.limits, node.clock.steady)
        self.client_rates = ClientRates(app.limits, node.clock.steady)
        self.key_rates = KeyRates(app, node.clock.steady)
        self._new_channels = NewChannels(self._unknown, node.clock.steady)
        self._new_of_addresses = NewChannels(self._unknown, node.clock.steady, OF_ADDRESS)

    def refused(self) -> dict[str, int]:
        """Return how much was refused since the start because the application, a key or a client was at a limit."""
        of_app = {str(limit): self.node.local.room.refused[self.app.id, limit] for limit in Limit}
        return {
            "messages": self.rates.refused,
            **of_app,
            "new_channels": self._new_channels.refused + self._new_of_addresses.refused,
            **self.key_rates.refused,
            **self.client_rates.refused,
        }

    async def check_new_channels(self, user: str, channels: Sequence[str]) -> None:
        """Refuse channels that a client of this user would bring into being beyond its measure (`NewChannels.check`)."""
        await self._new_channels.check(user, [name for name in channels if not self.connections_in(name)])

    async def check_new_channels_of(self, address: str, channels: Sequence[str]) -> None:
        """Refuse channels that a client without a grant would bring into being beyond the measure of its address."""
        names = [name for name in channels if not self.connections_in(name)]
        await self._new_of_addresses.check(source_of(address), names)

    async def _unknown(self, channels: Sequence[str]) -> set[str]:
        """Return those of the channels that the engine does not know."""
        known = await self.channels(channels, with_users=False)
        return set(channels).difference(name_of(each.name) for each in known)

    # -- connections, wherever they are

    async def connect(
        self,
        conn_id: str | None,
        user: str,
        protocol: ClientProtocol,
        channels: Patches,
        update: UserUpdate,
        since: str = "",
    ) -> Opened:
        """Register a connection, or add channels to the one that has this id (`Node.connect`)."""
        # Before their keys are made: they may be very many.
        self.node.limits.check_channel_count(len(channels))
        is_drawn, user_key = conn_id is None, self.app.key(user)
        conn_key = self.node.draw_id(user_key, self._new_key) if conn_id is None else self.app.key(conn_id)
        patches = self._patches(channels)
        return _opened(
            await self.node.connect(conn_key, user_key, protocol, patches, update, since, is_drawn=is_drawn)
        )

    def connect_at_once(
        self, user: str, protocol: ClientProtocol, channels: Sequence[str], update: UserUpdate, since: str
    ) -> Opened | Awaitable[Opened] | None:
        """Register a connection with a new id, without a wait; None if that takes one: nothing has happened then.

        The caller is answered later as by `announced`.

        Args:
            channels: different ones, which get no settings of their own if they are new.
        """
        if not self.node.connects_at_once:
            return None
        # Before their keys are made: they may be very many.
        self.node.limits.check_channel_count(len(channels))
        conn_id = self.app.conn_id(self.new_id())
        conn_key, user_key, *keys = self.app.keys([conn_id, user, *channels])
        patches: Channels = {shared(key): {} for key in keys}
        rounds = self.node.hub.rounds
        waiting = rounds.waiting_events
        found = self.node.connect_at_once(Member(conn_key, user_key, protocol), patches, update, since)
        if found is None:
            return None
        opened = Opened(conn_id, found, sorted(channels))
        return self._held_back(opened) if rounds.waiting_events > waiting and rounds.is_behind else opened

    async def announced(self, change: Awaitable[T]) -> T:
        """Return what a call changes, when its caller may change more.

        Members are sent who joins and leaves, so a caller may have to wait as a publisher has (`backpressure.py`). One whose
        change is not announced waits for nothing, unless other events come while an engine outside of the loop makes it.
        """
        rounds = self.node.hub.rounds
        waiting = rounds.waiting_events
        outcome = await change
        return await self._held_back(outcome) if rounds.waiting_events > waiting else outcome

    def _new_key(self) -> str:
        return self.app.key(self.app.conn_id(self.new_id()))

    async def subscribe(self, conn_id: str, channels: Patches, since: str = "") -> Subscriptions | None:
        """Join the channels that the connection is not in yet; None if it is unknown (`Node.subscribe`)."""
        self.node.limits.check_channel_count(len(channels))
        return _subscriptions(
            await self.node.subscribe(self.app.key(conn_id), self._patches(channels), since)
        )

    async def unsubscribe(self, conn_id: str, channels: Sequence[str]) -> Subscriptions | None:
        """Leave those of the channels the connection is in; None if it is unknown."""
        return _subscriptions(
            await self.node.unsubscribe(self.app.key(conn_id), await self._many_keys(channels))
        )

    async def end(self, conn_id: str, code: CloseCode, reason: str, recorded: str = "") -> bool:
        """End a connection wherever it is; False if it is unknown (`Node.end`)."""
        return await self.node.end(self.app.key(conn_id), code, reason, recorded)

    async def revoke(self, name: str, *, is_user: bool) -> int:
        """Refuse the tokens of a user that were issued up to now, or one of this name; return how many connections it ended.

        Raises:
            Unavailable: a node has not answered, or there are too many revocations; the call may have taken effect.
        """
        keep_s = self.app.limits.token_age_s
        return await self.node.revocations.revoke(self.app.key(name), keep_s, is_user=is_user)

    async def take_over(self, conn_id: str) -> Connection | None:
        """Return the connection, moved to this node if another one held it; None if it is unknown (`Node.take_over`)."""
        return await self.node.take_over(self.app.key(conn_id))

    def may_be_elsewhere(self, conn_id: str) -> bool:
        """Whether another node may own the connection, so that `take_over` is needed."""
        return self.node.may_be_elsewhere(self.app.key(conn_id))

    # -- connections of this node

    def connection(self, conn_id: str) -> Connection | None:
        """Return a connection of this node; None if it has none of this id."""
        return self.node.connection(self.app.key(conn_id))

    async def connections(self) -> list[Connection]:
        """Return all connections of this node."""
        return await self._owned(list(self.node.hub.connections.values()), attrgetter("id"))

    def connections_of(self, user: str) -> Iterable[Connection]:
        """Return the connections of a user at this node."""
        return self.node.hub.users.get(self.app.key(user), ())

    def connections_in(self, channel: str) -> Collection[Connection]:
        """Return the connections of this node that are in a channel."""
        return self.node.hub.channels.get(self.app.key(channel), {}).keys()

    def endings(self) -> Iterable[Ending]:
        """Return how streams and connections of this node ended lately, newest first."""
        return (ending for ending in self.node.local.endings if self.app.owns(ending.conn_id))

    def endings_of(self, conn_id: str, count: int) -> list[Ending]:
        """Return how the last streams of a connection, and it itself, ended at this node, newest first."""
        return self.node.local.endings.of(self.app.key(conn_id), count)

    def endings_of_user(self, user: str, count: int) -> list[Ending]:
        """Return how the last streams and connections of a user ended at this node, newest first."""
        key = self.app.key(user)
        return list(islice((ending for ending in self.node.local.endings if ending.user == key), count))

    # -- messages and state

    async def publish(self, messages: Sequence[Message]) -> list[Accepted]:
        """Publish messages in this order; when this returns, the engine has accepted them.

        While streams cannot be written to as fast, it returns later (`service.backpressure`).

        Raises:
            TooManyRequests: the application publishes more messages in a second than it may.
        """
        self.rates.check_messages(len(messages))
        return await self._held_back(self._counted(await self.node.publish(await self._keyed(messages))))

    def publish_one(self, message: Message) -> Accepted | Awaitable[Accepted]:
        """Publish a message that is not for certain users, as `publish` does; at once, if nothing need wait.

        Raises:
            TooManyRequests: as `publish` does.
        """
        self.rates.check_messages(1)
        keyed = self.app.keyed(message)
        accepted = self.node.publish_at_once(keyed)
        if accepted is None:
            return self._publish_later(keyed)
        self.published += not accepted.duplicate
        return self._held_back(accepted) if self.node.hub.rounds.is_behind else accepted

    async def _publish_later(self, keyed: Message) -> Accepted:
        [accepted] = self._counted(await self.node.publish([keyed]))
        return await self._held_back(accepted)

    async def _held_back(self, outcome: T) -> T:
        """Return what is to be answered to a publisher, when it may publish more."""
        if self.node.hub.rounds.is_behind:
            await next_round(self.node.hub)
        return outcome

    def _counted(self, results: list[Accepted]) -> list[Accepted]:
        for result in results:
            self.published += not result.duplicate
        return results

    async def change(self, changes: Sequence[MessageEdited | MessageDeleted]) -> list[Accepted]:
        """Publish edits and deletions of messages, as `publish` does."""
        self.rates.check_messages(len(changes))
        return await self._held_back(await self.node.change(await self._keyed(changes)))

    async def _keyed(self, events: Sequence[E]) -> list[E]:
        """Return the events with keys in place of names, in slices: each may have very many recipients."""
        if any(map(_is_for_many, events)):
            slices = Slices(self.clock.steady)
            return [await self._keyed_in_slices(event, slices) for event in events]
        if len(events) == 1:
            await turn_for(len(events[0].only or ()))
            return [self.app.keyed(events[0])]
        return await Slices(self.clock.steady).each(events, self.app.keyed, KEYED_AT_ONCE)

    async def _keyed_in_slices(self, event: E, slices: Slices) -> E:
        """Return the event with keys in place of names; those of very many users are made in slices."""
        await slices.due()
        names = event.only
        if names is None or not _is_for_many(event):
            return self.app.keyed(event)
        rest = iter(names)
        while (part := list(islice(rest, KEYS_SLICE))) and self.app.keys(part) is part:
            await slices.due()
        keys = await slices.set_of(map(self.app.key, names)) if part else names
        return replace(self.app.keyed(replace(event, only=None)), only=keys)

    async def update_user(self, name: str, update: UserUpdate) -> UserChange | None:
        """Change the state of a user; return None if the user is unknown."""
        return await self.node.update_user(self.app.key(name), update)

    async def configure(self, patches: Patches) -> None:
        """Change settings of channels, created if need be; settings that are not named keep their values."""
        await self.node.configure(self._patches(patches))

    # -- reads

    async def head(self, names: Sequence[str] | None = None, all_shards: bool = False) -> Position:
        """Return the position after the last accepted events, which all applications share (`EventLog.head`)."""
        keys = None if names is None else await self._many_keys(names)
        return await self.node.head(keys, all_shards)

    async def channels(self, names: Sequence[str] | None, with_users: bool = True) -> list[Channel]:
        """Return the known channels among these; None means all (`Directory.channels`)."""
        if names is not None:
            return await self.node.directory.channels(await self._many_keys(names), with_users)
        return await self._owned(await self.node.directory.channels(None, with_users), _NAME)

    async def channels_at(
        self, names: Sequence[str], with_users: bool = True
    ) -> tuple[list[Channel], Position]:
        """Return the known channels among these, and of which position they are (`Directory.channels_at`)."""
        return await self.node.directory.channels_at(await self._many_keys(names), with_users)

    def channels_at_once(self, names: Sequence[str]) -> tuple[list[Channel], Position] | None:
        """Return the known channels among these few, and of which position they are; None if that takes a wait."""
        return self.node.directory.channels_at_once(self.app.keys(names))

    async def users(self, names: Sequence[str] | None, with_channels: bool = True) -> list[User]:
        """Return the known users among these; None means all whose names count everywhere (`Directory.users`)."""
        if names is not None:
            return await self.node.directory.users(self.app.keys(names), with_channels)
        users: list[User] = []
        async for part in in_turns(await self.users_and_members(with_channels), KEYS_SLICE):
            users += [user for user in part if not is_member_key(user.name)]
        return users

    async def users_and_members(self, with_channels: bool = True) -> list[User]:
        """Return all known users, and with them those whose names count in one channel or for one connection only."""
        return await self._owned(await self.node.directory.users(None, with_channels), _NAME)

    async def states(self, members: Mapping[str, str]) -> list[User]:
        """Return users of whom only the state is valid, by a channel of each; both are keys (`Directory.states`)."""
        return await self.node.directory.states(members)

    async def members(self, channel: str) -> dict[str, str]:
        """Return the user of each of the channel's connections on all nodes, by connection id, which is that of a holder."""
        found = await self.node.members(self.app.key(channel))
        named: dict[str, str] = {}
        async for part in in_turns(list(found.items()), KEYS_SLICE):
            named |= {name_of(holder_id(conn_id)): name_of(user) for conn_id, user in part}
        return named

    async def _owned(self, items: Sequence[T], key_of: Callable[[T], str]) -> list[T]:
        """Return those of the items whose key is one of the application."""
        owned: list[T] = []
        async for part in in_turns(items, KEYS_SLICE):
            owned += [item for item in part if self.app.owns(key_of(item))]
        return owned

    async def _many_keys(self, names: Sequence[str]) -> Sequence[str]:
        """Return the keys of names that are as many as a body can hold."""
        if len(names) <= KEYS_SLICE:
            return self.app.keys(names)
        keys: list[str] = []
        async for part in in_turns(names, KEYS_SLICE):
            keys += self.app.keys(part)
        return keys

    def _patches(self, channels: Patches) -> Channels:
        return {shared(self.app.key(name)): dict(patch) for name, patch in channels.items()}

    async def use_once(self, text: str, keep_s: float) -> bool:
        """Use a text of this application at this node; return False if another node has (`Cluster.use_once`)."""
        return await self.node.use_once(self.app.key(text), keep_s)


def _is_for_many(event: Message | MessageEdited | MessageDeleted) -> bool:
    return event.only is not None and len(event.only) > KEYS_SLICE


@lru_cache(maxsize=SHARED_KEYS)
def shared(key: str) -> str:
    """Return one object for equal keys of channels: each request has a text of its own, which an idle stream would keep.

    `sys.intern` would keep those of all channels for ever with CPython 3.12.
    """
    return key


def _opened(opened: Opened) -> Opened:
    """Return the result of a node with names."""
    return Opened(name_of(opened.conn_id), opened.user, list(map(name_of, opened.channels)))


def _subscriptions(answer: Answer | None) -> Subscriptions | None:
    """Return the result of a node with names."""
    if answer is None:
        return None
    return Subscriptions(list(map(name_of, answer.channels)), list(map(name_of, answer.changed)))
