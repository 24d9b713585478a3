"""Reads a body as plain JSON, before any schema, and refuses bodies that are not JSON or nest too deep."""

import json
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from typing import Any

import msgspec

from channelstream.core.nesting import nests_deeper
from channelstream.core.numbers import finite, read_any
from channelstream.errors import Malformed

MAX_NESTING = 250
"""Deepest nesting of arrays and objects. Encoding a decoded value cannot exceed the recursion limit (Python: 1000)."""
SEND_JSON = "Send one JSON value in UTF-8."

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_GZIP = b"\x1f\x8b"
_split = msgspec.json.Decoder(list[msgspec.Raw]).decode


def read_plain(body: bytes) -> Any:
    """Decode JSON without a schema.

    A byte order mark is accepted (RFC 8259, 8.1). So is half of a surrogate pair, which Node and Python write when a text
    is cut inside an emoji; `validation` decides which fields may contain it.

    Raises:
        Malformed: the body is not JSON.
        msgspec.ValidationError: a number is out of range.
    """
    try:
        return read_any(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if body.startswith(BOM_UTF8):
            return read_plain(body.removeprefix(BOM_UTF8))
        if _SURROGATE.search(body):
            return _with_surrogates(body, error)
        raise _not_json(body, error) from error


def _with_surrogates(body: bytes, error: Exception) -> Any:
    try:
        return json.loads(body.decode(), parse_constant=_refuse, parse_float=finite)
    except (ValueError, RecursionError):
        raise _not_json(body, error) from error


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _not_json(body: bytes, error: Exception) -> Malformed:
    if body.startswith((BOM_UTF16_BE, BOM_UTF16_LE)) or b"\0" in body[:2]:
        return Malformed("Invalid JSON: the body is UTF-16", SEND_JSON)
    if body.startswith(_GZIP):
        return Malformed(
            "Invalid JSON: the body is compressed", "Send it uncompressed: one JSON value in UTF-8."
        )
    return Malformed(f"Invalid JSON: {str(error).removeprefix('JSON is malformed: ')}", SEND_JSON)


def count_items(body: bytes) -> int:
    """Return the number of items of a list that is valid JSON."""
    try:
        return len(_split(body))
    except msgspec.DecodeError:
        return len(read_plain(body))


def refuse_deep(body: bytes) -> None:
    """Refuse a body that nests deeper than `MAX_NESTING`.

    Raises:
        Malformed: it nests too deep.
    """
    if nests_deeper(body, MAX_NESTING):
        raise Malformed(f"Invalid JSON: nested deeper than {MAX_NESTING} levels", SEND_JSON)
