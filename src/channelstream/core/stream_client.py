"""Who opened the stream of a connection, as the admin pages show it.

A connection keeps its client in few bytes: 10,000 of them are 0.8 MB, and 1.5 MB as objects with a text and a time each.
"""

from typing import Final, NamedTuple

ADDRESS_CHARACTERS: Final = 64
"""Longest address that is kept; one that a trusted proxy reports may be any text."""
AGENT_BYTES: Final = 256
"""Longest User-Agent that is kept; the rest of a longer one is dropped."""
AGENTS: Final = 256
"""Most texts of User-Agent that connections share. Beyond it the oldest is forgotten, and a new copy is made of it."""
_TIME_BYTES: Final = 5
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

    def packed(self) -> bytes:
        """Return all but the agent."""
        return round(self.since_s * 100).to_bytes(_TIME_BYTES) + self.address.encode()

    @classmethod
    def unpacked(cls, packed: bytes, agent: str) -> "StreamClient":
        since_s = int.from_bytes(packed[:_TIME_BYTES]) / 100
        return cls(packed[_TIME_BYTES:].decode(), agent, since_s)


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


def client_of(address: str, agent: str, now_s: float, before: StreamClient | None = None) -> StreamClient:
    """Return the client of a request.

    Args:
        now_s: in epoch seconds.
        before: the client of the request that this one follows; if it is the same, its time is kept.
    """
    client = StreamClient(address[:ADDRESS_CHARACTERS], agent, now_s)
    return before if before is not None and before[:2] == client[:2] else client
