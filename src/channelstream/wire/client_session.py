"""What a protocol sends at the moments of a stream, and what a client's text means; a protocol as the transports see it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from channelstream.apps.app import App
from channelstream.apps.grants import NO_GRANTS, Grants
from channelstream.core.client_protocol import ClientProtocol
from channelstream.core.entry import Entry
from channelstream.core.format import Format
from channelstream.wire.client_commands import Action, ClientCommand, Outcome
from channelstream.wire.frames import close_frame
from channelstream.wire.framing import Framing


class Silence(NamedTuple):
    """How long a client may send nothing, not even answers to pings, and how its line is closed then.

    Attributes:
        code: a close code of the protocol.
    """

    seconds: float
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class LineRules:
    """What a protocol demands of a WebSocket besides its texts.

    Attributes:
        frames: how many a client may send in a ping interval, if that is more than the server allows all clients.
        frames_per_s: how many more for each second of that interval.
        silence: None means that a client which acknowledges what it is sent may be silent for ever.
        takes_binary: a binary message is ignored; if not, it is a fault.
    """

    frames: int = 0
    frames_per_s: float = 0.0
    silence: Silence | None = None
    takes_binary: bool = True


class SessionStart(NamedTuple):
    """What a session may need to know of its client.

    Attributes:
        app: to which the client belongs.
        steady: returns seconds of a clock that never jumps.
        state: what the entrance has found out about the client, or the session of another process has left.
    """

    app: App
    steady: Callable[[], float]
    state: bytes = b""


Start = Callable[[], SessionStart]
"""Returns what a session may need to know: most sessions need nothing, and do not ask."""
NO_START = SessionStart(App(), lambda: 0.0)
"""For a session that needs none of it."""


class ClientSession(Protocol):
    """One side of a conversation: what the client of a stream is sent besides its live events, and what it asks for.

    Each stream has one. A protocol without state for each client shares one object among all streams of a format.
    All that is returned is the bytes of one write; empty means that nothing is written.
    Channels and the connection are given as keys (`apps.keys`); a client is sent their names.
    """

    @property
    def format(self) -> Format:
        """The format of the events."""

    @property
    def heartbeat(self) -> bytes:
        """What an idle stream is sent, so that proxies keep it open."""

    @property
    def rules(self) -> LineRules:
        """What a WebSocket has to keep to."""

    @property
    def state(self) -> bytes:
        """What the session of another process needs to continue (`SessionStart.state`)."""

    def opened(self, conn_id: str) -> bytes:
        """Return what a stream is sent before everything else."""

    def resumed(self, position: str, recovered: Sequence[str], lost: Sequence[str]) -> bytes:
        """Return what a resuming client is sent first: the channels that it is sent completely, and the others."""

    def catchup_item(self, entry: Entry) -> bytes | None:
        """Return the item of an entry for a client without a position after an absence; None if it is sent nothing."""

    def closing(self, code: int | None, reason: str) -> bytes:
        """Return what a stream is sent last.

        Args:
            code: a `CloseCode`, or that of a client's fault in RFC 6455; None has no code.
        """

    def receive(self, text: bytes | bytearray) -> Iterable[ClientCommand]:
        """Return what a text of the client asks for, in order; an empty tuple if it asks for nothing.

        It never raises: a faulty text is a command to answer so. It may be lazy: each command is taken from it when the
        one before is done.
        """

    def reply(self, command: Action, outcome: Outcome) -> bytes:
        """Return the answer to a command that was carried out or refused."""

    def joined(self, writes: Sequence[bytes]) -> bytes:
        """Return several writes as one; none make a whole answer as well. A long poll has one write."""


@dataclass(frozen=True, slots=True)
class WireProtocol:
    """A row of the table of protocols (`protocols.py`).

    Attributes:
        client: its name in the engines, and where its clients receive presence events.
        title: its name for people.
        formats: for each transport that it is spoken on.
        session: returns the session of a new stream; raises ValueError if the application does not speak this protocol.
        text: returns the JSON that a live client is sent of an entry, whatever encloses it; None if it is sent nothing.
        closing: returns the close frame of a WebSocket that is refused.
        resumes: a client can come back to its connection. If not, the connection ends with its stream.
        grants: what its clients may do by commands that come without a token.
    """

    client: ClientProtocol
    title: str
    formats: Mapping[Framing, Format]
    session: Callable[[Framing, Start], ClientSession]
    text: Callable[[Entry], bytes | None]
    closing: Callable[[int | None, str], bytes] = close_frame
    resumes: bool = True
    grants: Grants = NO_GRANTS
