"""What the new process does: it builds everything from the snapshot, then serves.

Nothing is read from a client's socket, nothing written to it and nothing accepted before `begin`: until then the old process
may go on. Streams are attached after the listening sockets and the idle connections, in short turns. A connection whose
stream is not attached yet is like one whose client was offline for a moment: it reads the log from its position.
"""

import asyncio
import os
import select
import socket
from collections.abc import Callable, Sequence
from itertools import count
from typing import TypeVar

from channelstream.errors import CannotHandOver
from channelstream.http.connection import HttpConnection
from channelstream.http.listener import Listener
from channelstream.slices import in_turns
from channelstream.transports.continuing import ContinuedStream
from channelstream.transports.moving import StreamRecord
from channelstream.upgrade import snapshot
from channelstream.upgrade.line import Part
from channelstream.upgrade.server_parts import ServerParts
from channelstream.upgrade.snapshot import (
    MAX_BYTES,
    Records,
    read_flag,
    read_nonces,
    read_numbers,
    read_revocations,
    read_streams,
    read_texts,
)

AT_ONCE = 50
"""Sockets that are attached together: less than 10 ms of work, after which calls are answered."""

UNTIL_LOOK = 200
"""Connections without a call that are attached until those with one are looked for again."""
CALL = b"POST "
"""With this begins a call that changes anything; polls begin otherwise."""

T = TypeVar("T")


class Taker:
    """The new process, with all that it was handed over."""

    def __init__(self, parts: ServerParts) -> None:
        self._parts = parts
        self._listening: dict[str, tuple[bool, list[socket.socket]]] = {}
        self._streams: dict[int, tuple[int, StreamRecord]] = {}
        self._numbers = count()
        self._http: list[tuple[int, bytes]] = []
        self._records = {snapshot.CONNECTIONS: Records(), snapshot.STATE: Records()}
        self._bytes = 0

    async def take(self, part: Part) -> None:
        """Keep a part.

        Raises:
            CannotHandOver: it cannot be read, or all of it is too much.
        """
        self._bytes += len(part.body)
        if self._bytes > MAX_BYTES:
            raise CannotHandOver("the snapshot is too large")
        try:
            self._keep(part)
        except (ValueError, KeyError) as error:
            raise CannotHandOver(f"a part of the snapshot cannot be read: {part.kind}") from error

    def _keep(self, part: Part) -> None:
        match part.kind:
            case snapshot.LISTENING | snapshot.METRICS:
                sockets = [socket.socket(fileno=each) for each in part.descriptors]
                self._listening[part.kind] = (read_flag(part.body), sockets)
            case snapshot.STREAMS:
                for each in zip(part.descriptors, read_streams(part.body), strict=True):
                    self._streams[next(self._numbers)] = each
            case snapshot.LEFT:
                for number in read_numbers(part.body):
                    os.close(self._streams.pop(number)[0])
            case snapshot.HTTP:
                self._http += zip(part.descriptors, read_texts(part.body), strict=True)
            case snapshot.NONCES:
                app_id, rows = read_nonces(part.body)
                if app_id in self._parts.nonces:
                    self._parts.nonces[app_id].restore(rows)
            case snapshot.REVOCATIONS:
                self._parts.node.revocations.restore(read_revocations(part.body))
            case snapshot.CONNECTIONS:
                for record in self._records[part.kind].take(part.body):
                    self._parts.node.move.receive_connection(record)
            case snapshot.STATE:
                for record in self._records[part.kind].take(part.body):
                    self._parts.node.move.receive(record)
            case _:
                raise ValueError(part.kind)

    async def build(self) -> None:
        """Build the node from the parts that are here.

        Raises:
            CannotHandOver: one of them cannot be used.
        """
        await self._parts.node.move.build()

    async def prepared(self) -> None:
        """Start the node with the state; no socket is touched.

        Raises:
            CannotHandOver, ConfigError: the state is not complete, or cannot be used.
        """
        are_whole = all(records.is_whole for records in self._records.values())
        if self._listening.keys() != {snapshot.LISTENING, snapshot.METRICS} or not are_whole:
            raise CannotHandOver("a part of the snapshot is missing")
        await self._parts.node.move.take()

    async def begin(self) -> None:
        """Accept, and answer calls."""
        parts = self._parts
        # First: commands of other nodes may bring fresh tokens.
        parts.streams.arriving = {record.conn_id: None for _, record in self._streams.values()}
        parts.node.move.begin()
        await self._listen(snapshot.LISTENING, parts.listener)
        await self._listen(snapshot.METRICS, parts.metrics_listener)
        parts.streams.heartbeat.start()
        await self._attach_http(calls_of(self._http))

    async def attach(self) -> None:
        """Continue other connections and then streams, some at a time."""
        parts = self._parts
        while self._http:
            await self._attach_http(calls_of(self._http) or self._http[:UNTIL_LOOK])
        streams, self._streams = list(self._streams.values()), {}
        parts.streams.heartbeat.spreads = True
        async for batch in in_turns(streams, AT_ONCE):
            await self._attach(batch, self._make_stream)
        parts.streams.heartbeat.spreads = False
        parts.streams.arriving.clear()
        await parts.node.local.restored.expect_streams()
        parts.housekeeping.start()

    async def _listen(self, kind: str, listener: Listener) -> None:
        owns_path, sockets = self._listening.pop(kind)
        await listener.take_over(sockets, owns_path)

    def _make_http(self, received: bytes) -> asyncio.Protocol:
        return HttpConnection(self._parts.http_server, received=received)

    def _make_stream(self, record: StreamRecord) -> asyncio.Protocol:
        return ContinuedStream(self._parts.streams, record)

    async def _attach_http(self, connections: list[tuple[int, bytes]]) -> None:
        attached = set(connections)
        self._http = [each for each in self._http if each not in attached]
        for start in range(0, len(connections), AT_ONCE):
            await self._attach(connections[start : start + AT_ONCE], self._make_http)

    @staticmethod
    async def _attach(batch: Sequence[tuple[int, T]], make: Callable[[T], asyncio.Protocol]) -> None:
        await asyncio.gather(*(_serve(descriptor, make(record)) for descriptor, record in batch))


def calls_of(connections: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Return the connections on which a call waits, of all with what is received of a request on each.

    All clients that poll were answered before the move, and ask again at once: calls must not wait for very many of them.
    """
    poll = select.poll()
    for descriptor, _ in connections:
        poll.register(descriptor, select.POLLIN)
    ready = {descriptor for descriptor, _ in poll.poll(0)}
    return [
        (descriptor, received)
        for descriptor, received in connections
        if (received or (_first_bytes(descriptor) if descriptor in ready else b"")).startswith(CALL)
    ]


def _first_bytes(descriptor: int) -> bytes:
    """Return the first bytes that a client has sent, which stay unread."""
    line = socket.socket(socket.AF_INET, socket.SOCK_STREAM, fileno=descriptor)
    try:
        return line.recv(len(CALL), socket.MSG_PEEK)
    except OSError:
        return b""
    finally:
        line.detach()


async def _serve(descriptor: int, protocol: asyncio.Protocol) -> None:
    accepted = socket.socket(fileno=descriptor)
    try:
        await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, accepted)
    except OSError:  # Its client has gone.
        accepted.close()
