"""How events become the bytes of a stream, as the hub and its batches see it.

A format is the pair of a protocol and the framing of a transport. The composition root passes a table of all formats to
the hub, and each format knows its place in the table. So the hot path handles formats as small integers: a batch keeps
its bytes per number, and a connection waits in the list of its number. In a flush, a format's methods are called once
per batch, never per recipient.
"""

from collections.abc import Sequence
from typing import Protocol

from channelstream.core.entry import Entry


class Format(Protocol):
    """Encodes events for the clients of one protocol in one framing.

    Attributes:
        number: its place in the table of formats.
        form: the number of the form of its items; formats with the same number send the same items.
        name: that of its transport, for the admin pages.
    """

    @property
    def number(self) -> int: ...

    @property
    def form(self) -> int: ...

    @property
    def name(self) -> str: ...

    def item(self, entry: Entry) -> bytes | None:
        """Return what a live client is sent of an entry; None if it is sent nothing. An item is encoded once, and shared."""

    def enclose(self, items: Sequence[bytes], position: str | None) -> bytes:
        """Return the bytes of one write with these items.

        Args:
            position: after the last entry; None leaves the client's position as it is.
        """


def items_of(format_: Format, entries: Sequence[Entry]) -> list[bytes]:
    """Return what a live client is sent of these entries."""
    return [item for entry in entries if (item := format_.item(entry)) is not None]
