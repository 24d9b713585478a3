"""How a stream moves to another process: what it has to be there, and how its socket is left here.

The position of its connection in the log is all that a stream is, besides its socket and what its client has begun to send.
A stream that is suspended writes nothing more, and proceeds from its position: here if nothing came of the move, else in the
other process. A socket is moved only when all bytes written to it are in the kernel: nobody else could write the rest of a
frame.
"""

from enum import IntEnum
from typing import NamedTuple

from msgspec import Struct

from channelstream.apps.app import App
from channelstream.apps.client import Client
from channelstream.apps.grants import Grants, Patterns
from channelstream.wire.unfinished import Unfinished

TOKEN_BYTES = 8192
"""About the bytes of a client: it was in a token, which is not longer."""


class StreamKind(IntEnum):
    """The transports whose streams can move; the numbers are stored."""

    WEBSOCKET = 1
    DEFLATE = 2
    SSE = 3


class MovedClient(Struct, frozen=True, array_like=True):
    """What the token of a stream's client says, as far as an open stream needs it.

    Attributes:
        grants: the patterns of `Grants.subscribe`, `publish`, `history` and `presence`.
    """

    user: str
    expires_s: float
    grants: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]
    channels: tuple[str, ...]
    token_id: str
    issued_s: float | None
    key_id: str | None = None
    signed_with: str = ""


def moved_client(client: Client) -> MovedClient:
    """Return a client in the form in which it moves."""
    grants = client.grants
    patterns = (grants.subscribe.texts, grants.publish.texts, grants.history.texts, grants.presence.texts)
    return MovedClient(
        client.user,
        client.expires_s,
        patterns,
        client.channels,
        client.token_id,
        client.issued_s,
        client.key_id,
        client.signed_with,
    )


def client_from(moved: MovedClient, app: App) -> Client:
    """Return the client that has moved; it belongs to this application.

    Raises:
        ValueError: its grants are none.
    """
    return Client(
        app,
        moved.user,
        moved.expires_s,
        Grants(*map(Patterns, moved.grants)),
        moved.channels,
        token_id=moved.token_id,
        issued_s=moved.issued_s,
        key_id=moved.key_id,
        signed_with=moved.signed_with,
    )


class Copied(NamedTuple):
    """What is known here of the record that another process has of a stream.

    Attributes:
        number: of the record.
        client: what the token said then; None if the stream was opened without one.
        state: that of its session then.
    """

    number: int
    client: Client | None
    state: bytes


class StreamRecord(Struct, frozen=True, array_like=True):
    """A stream, for the process that takes it over.

    Attributes:
        conn_id: its connection, which has its position.
        unfinished: what its client has begun to send.
        client: what its token says; None if it was opened without one.
        state: of its session, as `SessionStart.state`.
    """

    kind: StreamKind
    conn_id: str
    unfinished: Unfinished | None
    client: MovedClient | None = None
    state: bytes = b""

    @property
    def size(self) -> int:
        """About how many bytes it has on its way to the other process."""
        begun = self.unfinished
        begun_bytes = 0 if begun is None or begun.message is None else len(begun.message[1])
        return begun_bytes + len(self.state) + (100 if self.client is None else TOKEN_BYTES)
