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
from channelstream.transports.moving import StreamRecord
from channelstream.transports.opening import ContinuedStream
from channelstream.upgrade.line import Part
from channelstream.upgrade.server_parts import ServerParts
from channelstream.upgrade.snapshot import (
    CONNECTIONS,
    LISTENING,
    MAX_BYTES,
    METRICS,
    STATE,
    Records,
    read_flag,
    read_numbers,
    read_streams,
    read_texts,
)

AT_ONCE = 50
"""Sockets that are attached together: less than 10 ms of work, after which calls are answered."""

T = TypeVar("T")


class Taker:
    """The new process, with all that it was handed over."""

    def __init__(self, parts: ServerParts) -> None:
        self._parts = parts
        self._listening: dict[str, tuple[bool, list[socket.socket]]] = {}
        self._streams: dict[int, tuple[int, StreamRecord]] = {}
        self._numbers = count()
        self._http: list[tuple[int, bytes]] = []
        self._records = {CONNECTIONS: Records(), STATE: Records()}
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
            case "listening" | "metrics":
                sockets = [socket.socket(fileno=each) for each in part.descriptors]
                self._listening[part.kind] = (read_flag(part.body), sockets)
            case "streams":
                for each in zip(part.descriptors, read_streams(part.body), strict=True):
                    self._streams[next(self._numbers)] = each
            case "left":
                for number in read_numbers(part.body):
                    os.close(self._streams.pop(number)[0])
            case "http":
                self._http += zip(part.descriptors, read_texts(part.body), strict=True)
            case "connections":
                for record in self._records[part.kind].take(part.body):
                    self._parts.node.receive_connection(record)
            case "state":
                for record in self._records[part.kind].take(part.body):
                    self._parts.node.receive(record)
            case _:
                raise ValueError(part.kind)

    async def build(self) -> None:
        """Build the node from the parts that are here.

        Raises:
            CannotHandOver: one of them cannot be used.
        """
        await self._parts.node.build()

    async def prepared(self) -> None:
        """Start the node with the state; no socket is touched.

        Raises:
            CannotHandOver, ConfigError: the state is not complete, or cannot be used.
        """
        are_whole = all(records.is_whole for records in self._records.values())
        if self._listening.keys() != {LISTENING, METRICS} or not are_whole:
            raise CannotHandOver("a part of the snapshot is missing")
        await self._parts.node.take()

    async def begin(self) -> None:
        """Accept, and answer calls."""
        parts = self._parts
        await self._listen(LISTENING, parts.listener)
        await self._listen(METRICS, parts.metrics_listener)
        parts.streams.heartbeat.start()
        http, self._http = self._http, []
        while http:
            with_requests_first(http)
            await self._attach(http[:AT_ONCE], self._make_http)
            del http[:AT_ONCE]

    async def attach(self) -> None:
        """Continue the streams, some at a time."""
        parts = self._parts
        streams, self._streams = list(self._streams.values()), {}
        parts.streams.heartbeat.spreads = True
        async for batch in in_turns(streams, AT_ONCE):
            await self._attach(batch, self._make_stream)
        parts.streams.heartbeat.spreads = False
        parts.housekeeping.start()

    async def _listen(self, kind: str, listener: Listener) -> None:
        owns_path, sockets = self._listening.pop(kind)
        await listener.take_over(sockets, owns_path)

    def _make_http(self, received: bytes) -> asyncio.Protocol:
        return HttpConnection(self._parts.http_server, received=received)

    def _make_stream(self, record: StreamRecord) -> asyncio.Protocol:
        return ContinuedStream(self._parts.streams, record)

    @staticmethod
    async def _attach(batch: Sequence[tuple[int, T]], make: Callable[[T], asyncio.Protocol]) -> None:
        await asyncio.gather(*(_serve(descriptor, make(record)) for descriptor, record in batch))


def with_requests_first(connections: list[tuple[int, bytes]]) -> None:
    """Put the connections first whose clients have sent something: many others may be idle."""
    poll = select.poll()
    for descriptor, _ in connections:
        poll.register(descriptor, select.POLLIN)
    ready = {descriptor for descriptor, _ in poll.poll(0)}
    connections.sort(key=lambda each: not (each[0] in ready or each[1]))


async def _serve(descriptor: int, protocol: asyncio.Protocol) -> None:
    accepted = socket.socket(fileno=descriptor)
    try:
        await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, accepted)
    except OSError:  # Its client has gone.
        accepted.close()
