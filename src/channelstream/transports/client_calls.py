"""`POST /client`: commands of clients whose stream takes none, as an event stream or a long poll.

They are carried out at the node that owns the connection, as those of a WebSocket are. The response has the same answers,
in a list. What a channel has had from a position on comes by the stream: by the open one, or by the next, which reads it
because the connection may. Events that are older than the position of the stream have no place among its events. An open
WebSocket or event stream is sent them at once; if it is lost with them, the next stream reports the channel as lost.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import msgspec
from msgspec import Struct

from channelstream.apps.client import Client
from channelstream.core.connection import Connection
from channelstream.core.ids import normalize_conn_id
from channelstream.errors import BadToken, TooManyRequests, Unauthorized, Unavailable
from channelstream.http.request import Request
from channelstream.http.response import Response
from channelstream.service import RemoteResult
from channelstream.transports.client_actions import ClientActions
from channelstream.transports.longpoll import PollStream
from channelstream.transports.reading import Change
from channelstream.transports.socket_stream import SocketStream
from channelstream.transports.streams import Streams
from channelstream.transports.token_admission import TokenAdmission, own_connection
from channelstream.wire.channelstream import json_list
from channelstream.wire.client_commands import Action, Outcome, Subscribe, Subscribed
from channelstream.wire.command_texts import Fault, read_commands
from channelstream.wire.commanding import COMMANDING, error_item, missed_items, reply_items
from channelstream.wire.framing import Framing

PROCEDURE = "client commands"
ANSWER_BYTES: Final = 1 << 20
"""Size of the answers to one request beyond which its further commands are refused, in bytes.

A few bytes ask for the 4 MiB of an `info`, so the answers to a short text would take gigabytes.
"""


class _Sent(Struct, frozen=True, array_like=True):
    """The commands of a request, for the node that owns the connection."""

    token: str
    conn_id: str
    text: bytes


class _Answered(Struct, frozen=True, array_like=True):
    """The answer of that node.

    Attributes:
        items: a list of items; empty if the connection is unknown there.
        refused_token: why the token is not accepted there.
    """

    items: bytes = b""
    refused_token: str = ""


_encode = msgspec.msgpack.Encoder().encode
_sent = msgspec.msgpack.Decoder(_Sent).decode
_answered = msgspec.msgpack.Decoder(_Answered).decode


class ClientCalls:
    """Carries out the commands of requests."""

    def __init__(self, streams: Streams, admission: TokenAdmission) -> None:
        """Create it for the requests of an application, or of all.

        Args:
            streams: what all streams share.
            admission: whose tokens are accepted.
        """
        self._streams = streams
        self._admission = admission
        # It is the same for each application: a token says whose it is.
        streams.node.remote_calls.register(PROCEDURE, self._answer_node)

    async def answer(self, request: Request) -> Response:
        """Answer a request of a client.

        Raises:
            BadToken: it has no token that is accepted.
            TooManyRequests: its address has shown too many wrong credentials.
            Unauthorized: the connection is not its own, or has ended.
        """
        token = self._admission.token_of(request.head, request.arguments) or ""
        client = await self._admission.client(token, request.head)
        try:
            conn_id = normalize_conn_id(request.arguments.get("conn_id", ""))
        except ValueError:
            raise _unknown() from None
        text = await request.read(self._streams.settings.inbound_bytes)
        service = self._streams.services.of(client.app)
        if not service.may_be_elsewhere(conn_id):
            return Response(await self._items(client, conn_id, text))
        sent = _encode(_Sent(token, conn_id, text))
        key = client.app.key(conn_id)
        result = await self._streams.node.remote_calls.call_owner(key, PROCEDURE, sent)
        return Response(_items_of(result))

    async def _answer_node(self, argument: bytes) -> bytes:
        """Answer another node, which has verified the token; here it says whose the connection is."""
        sent = _sent(argument)
        tokens = self._streams.rules.tokens
        if tokens is None:
            return _encode(_Answered(refused_token=BadToken().message))
        try:
            items = await self._items(await tokens.client(sent.token), sent.conn_id, sent.text)
        except BadToken as error:
            return _encode(_Answered(refused_token=error.message))
        except Unauthorized:
            return _encode(_Answered())
        return _encode(_Answered(items))

    async def _items(self, client: Client, conn_id: str, text: bytes) -> bytes:
        connection = own_connection(self._streams.services.of(client.app).connection(conn_id), client)
        if connection is None:
            raise _unknown()
        actions = self._streams.actions(connection, client, partial(self._admit, connection))
        return json_list(await self._replies(actions, connection, text))

    def _admit(self, connection: Connection, fresh: Client) -> None:
        """Let the stream of a connection go on with a fresh token: the open one, or one that comes from another process."""
        if isinstance(connection.stream, SocketStream):
            connection.stream.admit(fresh)
        elif connection.id in self._streams.arriving:
            self._streams.arriving[connection.id] = fresh

    async def _replies(self, actions: ClientActions, connection: Connection, text: bytes) -> Sequence[bytes]:
        format_ = self._streams.protocols.format_of(COMMANDING, Framing.POLL)
        items: list[bytes] = []
        faults = size = 0
        for command in read_commands(text):
            if items:
                await asyncio.sleep(0)  # A text with very many commands takes many loop turns.
            if isinstance(command, Fault):
                items.append(error_item(command.ref, command.code, command.message))
                faults += 1
                if faults > self._streams.rules.max_faults:
                    items.append(
                        error_item(None, "invalid", "Too many faulty commands: the rest is not read.")
                    )
                    break
                continue
            try:
                # The body of the request, or the commands before this one, may have taken long.
                actions.check_token()
            except BadToken as error:
                items.append(error_item(command.ref, error.code, error.message, retry_after=1))
                continue
            outcome = _long() if size >= ANSWER_BYTES else await _outcome(actions, connection, command)
            answer = reply_items(command.ref, outcome, format_)
            size += sum(map(len, answer))
            items += answer
        return items


async def _outcome(actions: ClientActions, connection: Connection, command: Action) -> Outcome:
    """Carry out a command; what its client has missed is written to the open stream of its connection."""
    while isinstance(command, Subscribe):
        stream = connection.stream
        if not isinstance(stream, SocketStream | PollStream):
            break
        outcome = await _joined_on(stream, actions, connection, command)
        if outcome is not None:
            return _without_missed(outcome)
        if connection.stream is stream:
            break  # Its client is closing it.
    return _without_missed(await actions.outcome(command))


async def _joined_on(
    stream: SocketStream | PollStream, actions: ClientActions, connection: Connection, command: Subscribe
) -> Outcome | None:
    """Join channels while a stream is stalled; return None if it has ended before."""
    found: Outcome | None = None

    async def join() -> Change:
        nonlocal found
        # The next poll follows the last event of this one's answer: no other than those of the log may be in it.
        sends = isinstance(stream, SocketStream)
        found = outcome = await actions.outcome(command, stalled=stream, sends=sends)
        items = missed_items(outcome, stream.format)
        if items and isinstance(outcome, Subscribed):
            # The request may be answered, and the stream lost with these events.
            connection.note_sent_apart(outcome.missed)
        return Change(stream.format.enclose(items, None) if items else b"", actions.starts(outcome))

    await stream.change(join)
    return found


def _without_missed(outcome: Outcome) -> Outcome:
    return replace(outcome, missed=()) if isinstance(outcome, Subscribed) else outcome


def _long() -> TooManyRequests:
    return TooManyRequests("The answers to this request are long: send this command in another one.", 1)


def _unknown() -> Unauthorized:
    return Unauthorized("Unknown connection: open a stream first.")


def _items_of(result: RemoteResult | None) -> bytes:
    """Return what the node has answered that owns the connection.

    Raises:
        Unauthorized: no node does, or it is another client's.
        BadToken: that node does not accept the token.
        Unavailable: it has not answered.
    """
    if result is None:
        raise _unknown()
    if result.failure:
        raise Unavailable(result.failure)
    answered = _answered(result.value)
    if answered.refused_token:
        raise BadToken(answered.refused_token)
    if not answered.items:
        raise _unknown()
    return answered.items
