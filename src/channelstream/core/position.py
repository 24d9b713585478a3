"""Positions: how far a client has heard one engine's log (DESIGN of the wire: docs/resume.md)."""

from dataclasses import dataclass

MAX_TEXT = 64
"""Longest position a client may send; ours are below 40 characters."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a log: its epoch, which changes when a log is lost, and the number of its last event."""

    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> "Position | None":
        """Read what a client sent; None where it is not a position."""
        epoch, _, seq = text.rpartition("-")
        # It may be repeated to the client as a line of an event stream, so nothing but plain text will do.
        if len(text) > MAX_TEXT or not epoch or not (text.isascii() and text.isprintable() and seq.isdigit()):
            return None
        return cls(epoch, int(seq))
