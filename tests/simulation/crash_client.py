"""A client of a server that is killed, with what is certain about its connection."""

from collections.abc import Iterable
from typing import Any

from tests.simulation.crash_server import Server
from tests.simulation.failure import demand
from tests.simulation.line import FrameParser, Items, Line

from channelstream.transports.websocket import WebSocketStream
from channelstream.wire.channelstream import SEED, V07


class Client:
    """One client, and what was acknowledged about its connection.

    Attributes:
        exists: whether a start must restore the connection; None while that is not known.
        member: likewise for each channel that a call was about.
        received: offsets of the messages that it was sent, by channel, since it joined.
        owed_after: the offset after which it is owed all messages of a channel.
        leaving: channels that it may have left: it is owed nothing while that is not known.
    """

    def __init__(self, number: int, channels: Iterable[str]) -> None:
        self._channels = list(channels)
        self.user = f"u{number % 5}"
        self.protocol = SEED if number == 3 else V07
        self.conn_id = ""
        self.exists: bool | None = False
        self.member: dict[str, bool | None] = {}
        self.received: dict[str, list[int]] = {}
        self.owed_after: dict[str, int] = {}
        self.leaving: set[str] = set()
        self.position = ""
        self.is_busy = False
        self._line: Line | None = None
        self._parser = FrameParser()
        self._resumed: dict[str, Any] | None = None

    def open(self, server: Server) -> None:
        """Open a stream from the last position."""
        connection = server.node.connection(self.conn_id)
        if connection is None:
            return
        self.drop()
        self._line = line = Line(65_536, pauses_late=False)
        self._parser, self._resumed = FrameParser(), None
        line.protocol = stream = WebSocketStream(server.streams, line, connection, deflate=False)
        line.on_lost = lambda: self._on_lost(line)
        stream.open(self.position)

    def _on_lost(self, line: Line) -> None:
        """Know that a line was cut, such as one whose client has answered no ping; with a close code it is a fault."""
        if self._line is line and self._parser.close_code is None:
            self._line = None

    def note(self, server: Server) -> None:
        """Take the present channels of the connection as certain; of those known before, what is owed stays the same."""
        connection = server.node.connection(self.conn_id)
        if connection is None:
            return
        self.member = {name: name in connection.channels for name in self._channels}
        before = {name: after for name, after in self.owed_after.items() if name not in self.leaving}
        kept = dict.fromkeys(self.leaving, server.node.position.offsets[0]) | before
        self.owed_after = {
            name: kept.get(name, read_range.bound) for name, read_range in connection.channels.items()
        }
        self.leaving.clear()

    def drop(self) -> None:
        if self._line is not None:
            self._line.abort()
        self._line = None

    @property
    def has_stream(self) -> bool:
        return self._line is not None

    def read(self) -> None:
        if self._line is not None:
            for items in self._parser.feed(self._line.take(len(self._line.unread))):
                self._take(items)

    def _take(self, items: Items) -> None:
        for item in items:
            if item["type"] == "resumed":
                demand(item["lost"] == [], "lost after a restart:", item["lost"], "from", self.position)
                demand(self._resumed is None, "resumed twice")
                self._resumed = item
            elif item["type"] == "message":
                offset = int(item["position"].rpartition("-")[2])
                self.received.setdefault(item["channel"], []).append(offset)
            self.position = item.get("position", self.position)
