"""Opens connections for clients with tokens: a new one, or their own one again."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from channelstream.apps.app import App
from channelstream.apps.client import Client
from channelstream.apps.keys import name_of
from channelstream.core.connection import Connection
from channelstream.core.http_head import RequestHead
from channelstream.core.ids import normalize_conn_id
from channelstream.core.user import UserUpdate
from channelstream.errors import BadToken, Invalid, Unavailable
from channelstream.faults import first_fault
from channelstream.service import ClientService, Service
from channelstream.transports.streams import Streams
from channelstream.transports.tokens import Tokens
from channelstream.wire.client_commands import Ref
from channelstream.wire.commanding import COMMANDING, result_item, unsubscribed_item

_BEARER = re.compile(rb"bearer +([\w.~+/=-]+) *", re.IGNORECASE | re.ASCII)


NO_TOKENS_TEXT = "This server accepts no tokens; see the option token_max_age_s."


class Admitted(NamedTuple):
    """A client with its connection.

    Attributes:
        greeting: the items with which its stream begins: the answer to what has opened it, unless the client needs none;
            and which channels it was in that its token does not grant any more.
    """

    connection: Connection
    client: Client
    greeting: Sequence[bytes]


class Asked(NamedTuple):
    """What a client with a token asks for as it opens a stream.

    Attributes:
        conn_id: its connection; empty if it has none yet.
        since: the position from which it reads; None or empty if it has none yet.
        ref: what the answer repeats.
        knows_conn_id: it needs no answer if its connection is the one that it has named.
    """

    token: str
    conn_id: str
    since: str | None
    ref: Ref = None
    knows_conn_id: bool = False


class TokenAdmission:
    """Finds or makes the connections of clients with tokens."""

    def __init__(self, streams: Streams, app: App | None) -> None:
        """Create the admission.

        Args:
            app: whose tokens are accepted; None if the path of the requests names no application.
        """
        self._streams = streams
        self._app = app

    @property
    def is_open(self) -> bool:
        """Whether tokens are accepted."""
        return self._streams.rules.tokens is not None

    def token_of(self, head: RequestHead, query: Mapping[str, str]) -> str | None:
        """Return the token of a request, in its header or else in its query; None if it has none.

        Where none is accepted, what looks like one may be for a proxy in front, or for another program.

        Raises:
            BadToken: none is accepted, and the request names no connection that it could be for.
        """
        field = head.first.get(b"authorization")
        found = _BEARER.fullmatch(field) if field else None
        token = found[1].decode() if found else query.get("token")
        if token is None or self.is_open:
            return token
        if "conn_id" in query:
            return None
        raise BadToken(NO_TOKENS_TEXT)

    @property
    def _tokens(self) -> Tokens:
        tokens = self._streams.rules.tokens
        if tokens is None:
            raise BadToken(NO_TOKENS_TEXT)
        return tokens

    async def client(self, token: str, head: RequestHead) -> Client:
        """Return the client for which a token speaks.

        Args:
            head: of the request that shows it, or begins the line that does.

        Raises:
            BadToken, Forbidden: it is not accepted, or not from the page that sends it.
            TooManyRequests: its address has shown too many wrong credentials.
        """
        try:
            client = await self._tokens.client(token, self._app)
        except BadToken:
            self._streams.count_refused_token(head)
            raise
        self._streams.policy_of(client.app).check_origin(head.headers)
        return client

    async def admit(
        self, asked: Asked, head: RequestHead, before_new: Callable[[], None] = lambda: None
    ) -> Admitted:
        """Return the connection of a client, at this node.

        A connection that is not the user's own is as one that is unknown: a new one is made.

        Args:
            head: as of `client`.
            before_new: called before a new one is made; may raise TooManyRequests.

        Raises:
            TooManyRequests: `before_new` did, or `client`.
            BadToken, Forbidden: the token is not accepted.
            Unavailable: the server takes no new connection now, or the engine is out of reach.
        """
        self._streams.check_draining()
        tokens = self._tokens
        client = await self.client(asked.token, head)
        service = self._streams.services.of(client.app)
        own, left = await self._own(service, client, asked.conn_id) if asked.conn_id else (None, [])
        if own is None:
            before_new()
        connection = own or await _new(service, client, asked.since or "")
        tokens.check_again(client)
        is_answered = own is None or not asked.knows_conn_id
        answer = [self._answer(connection, client, asked.ref)] if is_answered else []
        return Admitted(connection, client, [*answer, *([unsubscribed_item(left)] if left else [])])

    async def _own(
        self, service: Service, client: Client, conn_id: str
    ) -> tuple[Connection | None, list[str]]:
        """Return the connection that a client comes back to, and the channels that its token does not grant any more.

        One that would have too many channels with those that the token names cannot be continued, and is as unknown.
        """
        try:
            conn_id = normalize_conn_id(conn_id)
        except ValueError:
            return None, []
        connection = own_connection(await service.take_over(conn_id), client)
        if connection is None:
            return None, []
        granted = ClientService(service, client, conn_id)
        left = await granted.leave_ungranted(_channels(connection))
        if not set(client.channels) <= set(_channels(connection)):
            try:
                await granted.join_named()
            except Invalid:
                return None, []
        return connection, left

    def _answer(self, connection: Connection, client: Client, ref: Ref) -> bytes:
        return result_item(
            ref,
            {
                "conn_id": name_of(connection.id),
                "user": client.user,
                "channels": _channels(connection),
                "expires_in": int(client.left_s(self._streams.node.clock.wall())),
            },
        )


def own_connection(connection: Connection | None, client: Client) -> Connection | None:
    """Return a connection if it was opened with a token of this client's user; else None."""
    if connection is None or connection.protocol != COMMANDING:
        return None
    return connection if connection.user == client.app.key(client.user) else None


def _channels(connection: Connection) -> list[str]:
    return sorted(map(name_of, connection.channels))


async def _new(service: Service, client: Client, since: str) -> Connection:
    """Return a new connection of a client, in the channels that its token names.

    Raises:
        BadToken: its claims are more than a connection or a user may have.
    """
    update = UserUpdate(client.state, {}, client.public)
    channels: dict[str, dict[str, object]] = {name: {} for name in client.channels}
    try:
        opened = await service.connect(None, client.user, COMMANDING, channels, update, since)
    except Invalid as error:
        raise BadToken(f"The claims of the token are faulty: {first_fault(error.faults)}") from error
    connection = service.connection(opened.conn_id)
    if connection is None:
        raise Unavailable("The connection has ended meanwhile; try again.")
    return connection
