"""The table of the protocols that a server speaks: the formats and sessions of each, by its name."""

from collections.abc import Iterable, Iterator

from channelstream.apps.grants import Grants
from channelstream.core.client_protocol import ClientProtocol
from channelstream.core.entry import Entry
from channelstream.core.format import Format
from channelstream.wire import channelstream
from channelstream.wire.client_session import NO_START, ClientSession, Start, WireProtocol
from channelstream.wire.commanding import commanding
from channelstream.wire.framing import Framing
from channelstream.wire.pusher import pusher


class Protocols:
    """The protocols of a server.

    Attributes:
        formats: all formats, each at its number.
    """

    def __init__(self, rows: Iterable[WireProtocol]) -> None:
        """Build the table.

        Raises:
            ValueError: two formats have the same number, or a number is missing.
        """
        self._rows = {row.client.name: row for row in rows}
        # Two protocols may share formats: then their clients are sent the same bytes, which are made once.
        formats = {id(format_): format_ for row in self._rows.values() for format_ in row.formats.values()}
        self.formats: tuple[Format, ...] = tuple(sorted(formats.values(), key=lambda format_: format_.number))
        if any(format_.number != place for place, format_ in enumerate(self.formats)):
            raise ValueError("the number of each format is its place in the table")

    def is_known(self, protocol: ClientProtocol) -> bool:
        """Return whether this server speaks a protocol; a node of a later version may know further ones."""
        return protocol.name in self._rows

    def is_spoken(self, protocol: ClientProtocol, framing: Framing) -> bool:
        """Return whether this server speaks a protocol on a transport."""
        return self.is_known(protocol) and framing in self._rows[protocol.name].formats

    def text_of(self, protocol: ClientProtocol, entry: Entry) -> bytes | None:
        """Return the JSON that a live client of a protocol that is spoken here is sent of an entry; None for nothing."""
        return self._rows[protocol.name].text(entry)

    def format_of(self, protocol: ClientProtocol, framing: Framing) -> Format:
        """Return the format of the clients of a protocol that is spoken on this transport."""
        return self._rows[protocol.name].formats[framing]

    def session_of(
        self, protocol: ClientProtocol, framing: Framing, start: Start = lambda: NO_START
    ) -> ClientSession:
        """Return the session of a new stream, in a protocol that is spoken on its transport.

        Raises:
            ValueError: the application does not speak it.
        """
        return self._rows[protocol.name].session(framing, start)

    def closing_of(self, protocol: ClientProtocol, code: int | None, reason: str) -> bytes:
        """Return the close frame of a WebSocket that is refused, in a protocol that is spoken here."""
        return self._rows[protocol.name].closing(code, reason)

    def resumes(self, protocol: ClientProtocol) -> bool:
        """Return whether clients of a protocol that is spoken here can come back to their connections."""
        return self._rows[protocol.name].resumes

    @property
    def not_resuming(self) -> frozenset[str]:
        """The names of the protocols whose clients cannot come back to their connections."""
        return frozenset(name for name, row in self._rows.items() if not row.resumes)

    def grants_of(self, protocol: ClientProtocol) -> Grants:
        """Return what clients of a protocol that is spoken here may do by commands without a token."""
        return self._rows[protocol.name].grants

    def title_of(self, protocol: ClientProtocol) -> str:
        """Return the name of a protocol for people; that in the engines if this server does not speak it."""
        row = self._rows.get(protocol.name)
        return protocol.name if row is None else row.title


def own_protocols() -> Iterator[WireProtocol]:
    """Yield this server's own protocols: those of both older generations, of clients with a token, and of Pusher."""
    *older, v07 = channelstream.protocols(number=0, form=0)
    yield from (*older, v07, commanding(v07), pusher(number=8, form=2))


PROTOCOLS = Protocols(own_protocols())
"""What this server speaks. A further protocol has a row here, with numbers and forms that are not used yet."""
