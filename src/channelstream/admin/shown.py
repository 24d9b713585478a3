"""Formats untrusted values for the admin pages: long texts are truncated."""

from typing import Any

from channelstream.apps.keys import name_of
from channelstream.core.client_protocol import ClientProtocol
from channelstream.core.connection import Connection
from channelstream.core.endings import Ending
from channelstream.core.entry import Entry
from channelstream.core.stream_client import StreamClient
from channelstream.core.timestamps import stamp
from channelstream.core.user import State
from channelstream.wire.protocols import PROTOCOLS

TEXT = 400
"""Most characters of a message or a state value that are shown."""
KEYS = 8
"""Most keys of a state that a table shows."""


def cut(data: bytes | str) -> str:
    """Return a text, truncated with an ellipsis if it is too long."""
    # A character has at most four bytes, so decoding is bounded as well.
    text = data if isinstance(data, str) else data[: 4 * TEXT].decode(errors="ignore")
    return text if len(text) <= TEXT else text[:TEXT] + "…"


def state_of(state: State, keys: int | None = None) -> dict[str, Any]:
    """Return a state, or its first keys, with long texts truncated."""
    shown = list(state.items())[:keys]
    return {key: cut(value) if isinstance(value, str) else value for key, value in shown}


def transport_of(connection: Connection) -> str:
    """Return the name of the connection's present or last transport; empty if it had none in this run of the server."""
    # Not set before its first stream, in whatever state it is: it may have ended meanwhile, and is on its way out.
    number: int | None = getattr(connection, "format_number", None)
    return "" if number is None else PROTOCOLS.formats[number].name


def client_row(client: StreamClient | None) -> dict[str, Any] | None:
    """Describe who opened a stream; None if that is not known."""
    if client is None:
        return None
    return {"address": client.address, "agent": client.agent, "since": stamp(client.since_s)}


def waiting_bytes(connection: Connection) -> int:
    """Return the number of bytes written for a connection that the transport still buffers."""
    return connection.stream.buffered_bytes() if connection.stream else 0


def event_row(entry: Entry, protocol: ClientProtocol) -> dict[str, Any] | None:
    """Describe an event in the form that a connection receives; None if its client is sent nothing of it."""
    text = PROTOCOLS.text_of(protocol, entry)
    if text is None:
        return None
    return {
        "position": entry.position,
        "channel": None if entry.event.channel is None else name_of(entry.event.channel),
        "json": cut(text),
    }


def ending_row(ending: Ending) -> dict[str, Any]:
    return {
        "at": stamp(ending.at_s),
        "conn_id": name_of(ending.conn_id),
        "user": name_of(ending.user),
        "code": ending.code,
        "reason": cut(ending.reason),
        "final": ending.final,
    }
