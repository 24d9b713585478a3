"""Long lists in a body, read piece by piece: what a list of many messages costs must hold up nobody else."""

import re
from typing import Generic, TypeVar

import msgspec

from channelstream.api.plain import count_items
from channelstream.api.validation import MAX_FAULTS, decode_one_or_many
from channelstream.errors import Faults, Invalid, Malformed
from channelstream.slices import Slices

PIECE_BYTES = 8_192
"""Length of a piece; a longer item makes it longer. Items of 40 bytes are read in 1 to 2 ms (measured)."""

_BETWEEN = re.compile(rb"\}[ \t\r\n]*,[ \t\r\n]*(?=\{)")
"""What is between two objects of a list, or looks like it: in a text, or deeper."""
_LIST = re.compile(rb"[ \t\r\n]*\[")


T = TypeVar("T", bound=msgspec.Struct)


async def read_one_or_many(
    body: bytes,
    schema: type[T],
    most: int,
    turns: Slices,
    piece_bytes: int = PIECE_BYTES,
) -> tuple[list[T], bool]:
    """Read a body that is one object or a list of them; the flag says whether it was a list (wire.md, S2).

    Args:
        most: items a list may have.
        piece_bytes: length of a piece, and of what is not worth cutting.

    Raises:
        Malformed: the body is not JSON, or nests too deep.
        Invalid: an item breaks the schema, or there are too many; the faults of a list are keyed by the item's index.
    """
    begin = _LIST.match(body) if len(body) > piece_bytes else None
    if begin is None:
        items, many = decode_one_or_many(body, schema)
    else:
        items, many = await _Pieces(body, schema, most, piece_bytes).read(begin.end(), turns), True
    _check_count(len(items), most)
    return items, many


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise Invalid({"_schema": [f"Longer than maximum length {most}: send several lists."]})


class _Pieces(Generic[T]):
    """One list on its way from bytes to items, or to the faults of all of them."""

    def __init__(self, body: bytes, schema: type[T], most: int, piece_bytes: int) -> None:
        self._body = body
        self._schema = schema
        self._most = most
        self._piece_bytes = piece_bytes
        self._items: list[T] = []
        self._count = 0
        self._faults: Faults = {}

    async def read(self, at: int, turns: Slices) -> list[T]:
        """Read what follows the opening bracket.

        A piece ends where an object seems to end. That is so if the piece is JSON: what is read of a text does not depend on
        what follows. If not, the piece is read again with as much more; so nothing is read more than twice.
        """
        size = self._piece_bytes
        while len(self._faults) < MAX_FAULTS:
            found = _BETWEEN.search(self._body, at + size)
            if found is None:
                self._take(b"[" + self._body[at:])
                break
            try:
                self._take(b"[%b}]" % self._body[at : found.start()])
            except Malformed:
                size = 2 * (found.end() - at)
            else:
                at, size = found.end(), self._piece_bytes
                _check_count(self._count, self._most)
            await turns.due()
        if self._faults:
            await turns.drop(self._items)
            raise Invalid(self._faults)
        return self._items

    def _take(self, piece: bytes) -> None:
        try:
            items, _ = decode_one_or_many(piece, self._schema)
        except Invalid as error:
            self._note(error.faults)
            self._count += count_items(piece)
        else:
            self._items += items
            self._count += len(items)

    def _note(self, faults: Faults) -> None:
        for where, fault in faults.items():
            if len(self._faults) < MAX_FAULTS:
                self._faults[str(self._count + int(where)) if where.isdigit() else where] = fault
