"""The use cases of a client that acts for itself: those of its application, as far as its grants go.

Every command of a client, on whichever transport it comes, is a method here, and each method asks the grants before it does
anything: no other code decides what a client may do. A client acts for its own user and its own connection only.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from channelstream.apps.client import Client
from channelstream.core.accepted import Accepted
from channelstream.core.events import Message
from channelstream.core.timestamps import stamp
from channelstream.core.user import StateValue, UserUpdate
from channelstream.errors import Forbidden, Unauthorized
from channelstream.service.service import Service, Subscriptions

T = TypeVar("T")

NO_POSITIONS: Mapping[str, str] = MappingProxyType({})
Describe = Callable[[Service, Sequence[str], Sequence[str]], Awaitable[dict[str, Any]]]
"""Describes channels of an application: those with their history, and those with their users."""


class ClientService:
    """An application as one of its clients may use it.

    Attributes:
        client: whose grants count.
        conn_id: its connection.
    """

    def __init__(self, service: Service, client: Client, conn_id: str, *, sets_state: bool = False) -> None:
        """Create the service of a client.

        Args:
            service: of its application.
            client: what its token says.
            conn_id: its connection.
            sets_state: clients may change the state of their users (the option `client_state`).
        """
        self.client = client
        self.conn_id = conn_id
        self._service = service
        self._sets_state = sets_state

    def count_command(self) -> None:
        """Count a command, whatever it is.

        Raises:
            TooManyRequests: the connection, or its user, sends too many.
        """
        self._service.client_rates.check_command(self.conn_id, self.client.user)

    async def subscribe(
        self, channels: Sequence[str], since: Mapping[str, str] = NO_POSITIONS
    ) -> Subscriptions:
        """Join channels.

        Args:
            channels: what to join.
            since: the positions from which some of them may be read; the others from now on.

        Raises:
            Forbidden: a channel is not granted; none is joined.
            Unauthorized: the connection has ended.
            Invalid: it would have too many channels.
            TooManyRequests: its user brings too many into being.
        """
        self._check("subscribe", self.client.grants.subscribe.missing(channels))
        await self._service.check_new_channels(self.client.user, channels)
        changed: list[str] = []
        for position, names in _by_position(channels, since).items():
            done = await self._service.subscribe(self.conn_id, {name: {} for name in names}, position)
            changed += _found(done).changed
        return Subscriptions(_found(done).channels, sorted(changed))

    async def unsubscribe(self, channels: Sequence[str]) -> Subscriptions:
        """Leave those of the channels that the connection is in.

        Raises:
            Unauthorized: the connection has ended.
        """
        return _found(await self._service.unsubscribe(self.conn_id, channels))

    async def publish(self, channel: str, payload: bytes, uuid: str = "") -> Accepted:
        """Publish a message of the client's user.

        Args:
            channel: where to.
            payload: JSON.
            uuid: its id; empty draws one.

        Raises:
            Forbidden: the channel is not granted.
            TooManyRequests: its user brings too many into being, or it, its connection or the application publishes too
                much.
        """
        self._check("publish", self.client.grants.publish.missing([channel]))
        self._service.client_rates.check_message(self.conn_id, self.client.user, len(payload))
        await self._service.check_new_channels(self.client.user, [channel])
        message = Message(
            uuid=uuid or self._service.new_id(),
            channel=channel,
            user=self.client.user,
            payload=payload,
            timestamp=stamp(self._service.clock.wall()),
        )
        return (await self._service.publish([message]))[0]

    async def set_state(self, values: Mapping[str, StateValue]) -> Mapping[str, StateValue]:
        """Change the state of the client's user; return what changed.

        Raises:
            Forbidden: clients may not do so here.
        """
        if not self._sets_state:
            raise Forbidden("Clients may not change a state here; see the option client_state.")
        change = await self._service.update_user(self.client.user, UserUpdate(values, {}))
        return dict(_found(change).changed)

    async def info(self, channels: Sequence[str], describe: Describe) -> dict[str, Any]:
        """Describe channels: their histories and their users, as far as each is granted.

        Raises:
            Forbidden: neither is granted of a channel.
        """
        grants = self.client.grants
        refused = grants.presence.missing(grants.history.missing(channels))
        self._check("info", refused)
        histories = [name for name in channels if grants.history.has(name)]
        members = [name for name in channels if grants.presence.has(name)]
        return await describe(self._service, histories, members)

    async def leave_ungranted(self, channels: Sequence[str]) -> list[str]:
        """Leave those channels that the client may neither join nor was joined to by its token; return them."""
        granted = self.client.grants.subscribe
        left = [name for name in channels if name not in self.client.channels and not granted.has(name)]
        return list((await self.unsubscribe(left)).changed) if left else []

    async def join_named(self) -> Subscriptions:
        """Join the channels that the token names."""
        return _found(
            await self._service.subscribe(self.conn_id, {name: {} for name in self.client.channels})
        )

    def _check(self, command: str, refused: Sequence[str]) -> None:
        if refused:
            raise Forbidden(f"The token does not grant {command} of {', '.join(map(repr, refused[:3]))}.")


def _by_position(channels: Sequence[str], since: Mapping[str, str]) -> Mapping[str, list[str]]:
    """Return the channels by the position from which they are read; there is at least one position."""
    groups: dict[str, list[str]] = {} if channels else {"": []}
    for name in channels:
        groups.setdefault(since.get(name, ""), []).append(name)
    return groups


def _found(done: T | None) -> T:
    """Return a result, which is None if the connection of the client has ended.

    Raises:
        Unauthorized: it has.
    """
    if done is None:
        raise Unauthorized("This connection has ended.")
    return done
