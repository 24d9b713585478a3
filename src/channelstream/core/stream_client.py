"""Who opened the stream of a connection, as the admin pages show it.

A connection keeps its client in few bytes: 10,000 of them are 0.8 MB, and 1.5 MB as objects with a text and a time each.
"""

from typing import Final, NamedTuple

from channelstream.core.addresses import ADDRESS_CHARACTERS

AGENT_BYTES: Final = 256
"""Longest User-Agent that is kept; the rest of a longer one is dropped."""
AGENTS: Final = 256
"""Most texts of User-Agent that connections share. Beyond it the oldest is forgotten, and a new copy is made of it."""
TIME_BYTES: Final = 5
"""Of a time in hundredths of a second since 1970."""


class StreamClient(NamedTuple):
    """The client that opened the present or last stream of a connection.

    Attributes:
        address: as trusted proxies report it.
        agent: its User-Agent; empty if it sent none.
        since_s: when it did, in epoch seconds; the first of polls that follow one another.
    """

    address: str
    agent: str
    since_s: float

    @classmethod
    def unpacked(cls, packed: bytes, agent: str) -> "StreamClient":
        """Return the client whose address and time were packed by `pack`."""
        since_s = int.from_bytes(packed[:TIME_BYTES]) / 100
        return cls(packed[TIME_BYTES:].decode(), agent, since_s)


def pack(address: str, since_s: float) -> bytes:
    """Return all of a client but its agent: `TIME_BYTES`, and the address, cut."""
    return round(since_s * 100).to_bytes(TIME_BYTES) + address[:ADDRESS_CHARACTERS].encode()


class Agents:
    """The texts of User-Agent, each of which is there once: 10,000 browsers have few different ones."""

    def __init__(self) -> None:
        self._texts: dict[bytes, str] = {}

    def text(self, header: bytes | None) -> str:
        """Return the text of a header, cut; empty without one."""
        header = (header or b"")[:AGENT_BYTES]
        text = self._texts.get(header)
        if text is None:
            if len(self._texts) >= AGENTS:
                del self._texts[next(iter(self._texts))]
            text = self._texts[header] = header.decode("latin-1")
        return text
