"""A hub with connections whose streams record what is written, for the tests of the hub and of its flush."""

import json
from collections.abc import Callable
from typing import Any

from channelstream.close_codes import CloseCode
from channelstream.core.batch import BufferBatch
from channelstream.core.client_protocol import ClientProtocol
from channelstream.core.connection import Connection
from channelstream.core.entry import Entry
from channelstream.core.events import Event, Message, MessageDeleted
from channelstream.core.hub import Hub
from channelstream.core.position import ReadRange
from channelstream.wire.channelstream import V07
from channelstream.wire.framing import Framing
from channelstream.wire.protocols import PROTOCOLS


class Tape:
    """A stream that records its writes, and may run an action at each."""

    def __init__(self, protocol: ClientProtocol = V07, framing: Framing = Framing.POLL) -> None:
        self.format = PROTOCOLS.format_of(protocol, framing)
        self.written: list[bytes] = []
        self.on_write: Callable[[], None] = lambda: None
        self.on_close: Callable[[], None] = lambda: None

    def write(self, data: bytes) -> None:
        self.written.append(data)
        self.on_write()

    def close(self, code: CloseCode, reason: str) -> None:
        self.on_close()

    def uuids(self) -> list[list[str]]:
        """The uuids of each write."""
        return [[item["uuid"] for item in json.loads(data)] for data in self.written]


def fail() -> None:
    """Raise, as a stream does whose transport has a bug."""
    raise RuntimeError("a bug in a transport")


class Bench:
    """A hub with connections made and events numbered."""

    def __init__(self) -> None:
        self.flushes_asked = self.pauses_ended = 0
        self.hub = Hub(PROTOCOLS.formats, self._schedule, self._end_pause)
        self.offset = 0

    def _schedule(self) -> None:
        self.flushes_asked += 1

    def _end_pause(self) -> None:
        self.pauses_ended += 1

    def flush_all(self) -> None:
        while self.hub.flush():
            pass

    def member(
        self, user: str, *channels: str, protocol: ClientProtocol = V07, framing: Framing = Framing.POLL
    ) -> tuple[Connection, Tape]:
        """Add a live connection."""
        connection = Connection(f"c{len(self.hub.connections)}", user, protocol, self.hub.offsets, 15.0)
        self.hub.add(connection)
        for channel in channels:
            self.hub.subscribe(connection, channel, ReadRange.of(self.hub.offsets[0]))
        return connection, self.attach(connection, framing)

    def attach(self, connection: Connection, framing: Framing = Framing.POLL) -> Tape:
        """Attach a stream that has nothing to catch up."""
        tape = Tape(connection.protocol, framing)
        self.hub.attach(connection, tape, BufferBatch(10))
        self.hub.go_live(connection, [])
        return tape

    def deliver(self, event: Event) -> Entry:
        self.offset += 1
        entry = Entry(self.offset, ("e",), 0.0, event)
        self.hub.deliver(entry)
        return entry

    def say(
        self,
        channel: str | None,
        only: frozenset[str] | None = None,
        exclude: frozenset[str] | None = None,
        exclude_connection: str | None = None,
    ) -> Entry:
        """Deliver a message whose uuid is its number."""
        return self.deliver(
            Message(
                uuid=str(self.offset + 1),
                channel=channel,
                only=only,
                exclude=exclude,
                exclude_connection=exclude_connection,
                user="ann",
                payload=b"1",
                timestamp="t",
            )
        )


def deletion(uuid: str, **rest: Any) -> MessageDeleted:
    return MessageDeleted(uuid=uuid, channel="a", **rest)
