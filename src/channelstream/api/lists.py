"""Reads long lists piece by piece, so that decoding a list of many messages does not block the event loop."""

import re
from typing import Generic, TypeVar

import msgspec

from channelstream.api.field_by_field import MAX_FAULTS
from channelstream.api.plain import count_items
from channelstream.api.validation import decode_one_or_many, decoded, decoder_of
from channelstream.api.walker import Walker
from channelstream.errors import Invalid, Malformed
from channelstream.faults import Faults
from channelstream.slices import Slices

PIECE_BYTES = 8_192
"""Least length of a piece; a piece ends at the end of an item. With items of 40 bytes it takes 1 to 2 ms (measured)."""

_BETWEEN = re.compile(rb"\}[ \t\r\n]*,[ \t\r\n]*(?=\{)")
"""Text between two objects of a list. It also matches inside a JSON string or a nested list."""
_LIST = re.compile(rb"[ \t\r\n]*\[")


T = TypeVar("T", bound=msgspec.Struct)


def read_at_once(body: bytes, schema: type[T], max_items: int) -> tuple[list[T], bool] | None:
    """Read a short body as `read_one_or_many` does, without a wait; None if it is long, or has to be read field by field.

    Raises:
        Malformed: it nests too deep.
        Invalid: there are too many items.
    """
    read = None if len(body) > PIECE_BYTES else decoded(body, decoder_of(schema))
    if read is None:
        return None
    if not isinstance(read, list):
        return [read], False
    if len(read) > max_items:
        raise _too_many(max_items)
    return read, True


async def read_one_or_many(
    body: bytes,
    schema: type[T],
    max_items: int,
    slices: Slices,
    walker: Walker,
    piece_bytes: int = PIECE_BYTES,
) -> tuple[list[T], bool]:
    """Read a body that is one object or a list of them; the flag says whether it was a list (docs/api.md, "Lists").

    Args:
        max_items: most items of a list.
        piece_bytes: least length of a piece. A shorter body is read in one step.

    Raises:
        Malformed: the body is not JSON, or nests too deep.
        Invalid: an item breaks the schema, or there are too many items. The faults of a list are keyed by the item's index.
    """
    begin = _LIST.match(body) if len(body) > piece_bytes else None
    if begin is None:
        items, many = await decode_one_or_many(body, schema, walker)
    else:
        items, many = (
            await _Pieces(body, schema, max_items, walker, piece_bytes).read(begin.end(), slices),
            True,
        )
    if len(items) > max_items:
        raise _too_many(max_items)
    return items, many


def _too_many(max_items: int) -> Invalid:
    return Invalid({"_schema": [f"Longer than maximum length {max_items}: send several lists."]})


class _Pieces(Generic[T]):
    """Decodes one list, and collects its items or the faults of all items."""

    def __init__(
        self, body: bytes, schema: type[T], max_items: int, walker: Walker, piece_bytes: int
    ) -> None:
        self._body = body
        self._schema = schema
        self._max_items = max_items
        self._walker = walker
        self._piece_bytes = piece_bytes
        self._items: list[T] = []
        self._count = 0
        self._faults: Faults = {}

    async def read(self, at: int, slices: Slices) -> list[T]:
        """Read the items after the opening bracket, which ends at `at`.

        A piece ends where an object seems to end. If the piece is valid JSON, an object does end there, because a prefix of
        JSON is parsed the same way whatever follows. If it is not valid, the boundary was inside a string or a nested
        list, and the piece is read again at twice the length.
        """
        size = self._piece_bytes
        while len(self._faults) < MAX_FAULTS:
            found = _BETWEEN.search(self._body, at + size)
            if found is None:
                await self._decode_piece(b"[" + self._body[at:])
                break
            try:
                await self._decode_piece(b"[%b}]" % self._body[at : found.start()])
            except Malformed:
                size = 2 * (found.end() - at)
            else:
                at, size = found.end(), self._piece_bytes
                if self._count > self._max_items:
                    raise _too_many(self._max_items)
            await slices.due()
        if self._faults:
            await slices.drop(self._items)
            raise Invalid(self._faults)
        return self._items

    async def _decode_piece(self, piece: bytes) -> None:
        try:
            items, _ = await decode_one_or_many(piece, self._schema, self._walker)
        except Invalid as error:
            self._add_faults(error.faults)
            self._count += count_items(piece)
        else:
            self._items += items
            self._count += len(items)

    def _add_faults(self, faults: Faults) -> None:
        for where, fault in faults.items():
            if len(self._faults) < MAX_FAULTS:
                self._faults[str(self._count + int(where)) if where.isdigit() else where] = fault
