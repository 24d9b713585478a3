"""Long bodies in parts, encoded in short event loop turns: a single one would be copied several times in one turn."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct
from msgspec.structs import asdict

from channelstream.slices import STEP, Slices

PART_BYTES = 65_536
"""Length of a part of a long answer; a longer piece that is encoded already stays whole."""
encode = msgspec.json.Encoder().encode

Piece = bytes | Raw


@dataclass(frozen=True, slots=True)
class Parts:
    """A long body."""

    parts: Sequence[bytes]


async def in_parts(value: object, turns: Slices) -> Parts:
    """Encode a long answer in short loop turns; `Raw` values are encoded already."""
    parts: list[bytes] = []
    waiting: list[Piece] = []
    size = 0
    for number, piece in enumerate(_pieces(value)):
        waiting.append(piece)
        size += memoryview(piece).nbytes
        if size >= PART_BYTES:
            parts.append(b"".join(waiting))
            waiting, size = [], 0
            await turns.due()
        elif number % STEP == 0:  # A part of very small pieces takes longer than a turn.
            await turns.due()
    return Parts([*parts, b"".join(waiting)])


def fields_of(struct: Struct) -> dict[str, Any]:
    """Return the fields of a struct that are in its JSON."""
    return {name: value for name, value in asdict(struct).items() if value is not UNSET}


def _pieces(value: object) -> Iterator[Piece]:
    """Yield the JSON of a value; of a list or an object item by item, if any item is a list, an object or `Raw`."""
    if isinstance(value, Struct):
        value = fields_of(value)
    if isinstance(value, Raw):
        yield value
    elif isinstance(value, dict) and any(map(_is_more, value.values())):
        for number, (key, item) in enumerate(value.items()):
            yield b"%b%b:" % (b"," if number else b"{", encode(key))
            yield from _pieces(item)
        yield b"}"
    elif isinstance(value, list) and any(map(_is_more, value)):
        for number, item in enumerate(value):
            yield b"," if number else b"["
            yield from _pieces(item)
        yield b"]"
    else:
        yield encode(value)


def _is_more(value: object) -> bool:
    return isinstance(value, dict | list | Raw | Struct)
