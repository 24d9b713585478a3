"""Decodes a body by its schema, or reports all its faults at once in the form of 0.7.1.

A valid body costs one pass of msgspec. Only a body that msgspec refuses is read again field by field (`field_by_field.py`),
a long one in a thread (`walker.py`).
"""

from collections.abc import Callable
from functools import cache
from types import GenericAlias
from typing import Any, TypeVar

import msgspec

from channelstream.api.field_by_field import NULL, read_by_field
from channelstream.api.plain import MAX_NESTING, read_plain, refuse_deep
from channelstream.api.schemas import ChannelConfigBody, ChannelSettings
from channelstream.api.walker import Walker
from channelstream.core.numbers import has_many_exponents, read_any
from channelstream.errors import Invalid
from channelstream.faults import Faults

T = TypeVar("T", bound=msgspec.Struct)


async def decode(body: bytes, schema: type[T], walker: Walker) -> T:
    """Read a body that is one object.

    Raises:
        Malformed: the body is not JSON, or nests too deep.
        Invalid: the body breaks the schema.
    """
    read: T = await _decode(body, schema, walker)
    return read


def decode_at_once(body: bytes, schema: type[T]) -> T | None:
    """Read a body that is one object; None if `decode` has to read it, field by field.

    Raises:
        Malformed: it nests too deep.
    """
    read: T | None = decoded(body, _decoder(schema))
    return read


async def decode_one_or_many(body: bytes, schema: type[T], walker: Walker) -> tuple[list[T], bool]:
    """Read a body that is one object or a list of them; the flag says whether it was a list (docs/api.md, "Lists").

    Raises:
        Malformed: the body is not JSON, or nests too deep.
        Invalid: an item breaks the schema; the faults of a list are keyed by the item's index.
    """
    read = decoded(body, decoder_of(schema))
    if read is None:
        read = await walker.run(read_by_field, body, _one_or_many(schema))
    return (read, True) if isinstance(read, list) else ([read], False)


async def decode_channel_configs(body: bytes, walker: Walker) -> dict[str, ChannelSettings]:
    """Read the body of `/channel_config` in either form. If a name occurs twice, the last one counts.

    Raises:
        Malformed: the body is not JSON, or nests too deep.
        Invalid: a name or a setting is wrong. At top level the faults have no channel name, as in 0.7.1.
    """
    try:
        return dict(await _decode(body, ChannelConfigBody, walker))
    except Invalid as error:
        raise Invalid(error.faults, _unnested(error.faults)) from error


def conn_id_in(body: bytes) -> str | None:
    """Return the conn_id of an object that breaks its schema in another field."""
    return read_plain(body).get("conn_id") or None


def missing_connection() -> Invalid:
    """The error if neither body nor query has a conn_id."""
    return Invalid({"conn_id": [NULL]})


def unknown_connection() -> Invalid:
    """The error if no connection has this conn_id."""
    return Invalid({"conn_id": ["Unknown connection"]})


def unknown_user() -> Invalid:
    """The error if no user has this name."""
    return Invalid({"user": ["Unknown user"]})


def _unnested(faults: Faults) -> Faults:
    flat: Faults = {}
    for where, fault in faults.items():
        parts = fault.items() if isinstance(fault, dict) else ()
        of_channel = {part: texts for part, texts in parts if isinstance(texts, list)}
        if of_channel or isinstance(fault, list):
            flat[where] = of_channel or fault
        for _, of_settings in parts:
            flat |= of_settings if isinstance(of_settings, dict) else {}
    return flat


async def _decode(body: bytes, shape: Any, walker: Walker) -> Any:
    read = decoded(body, _decoder(shape))
    return await walker.run(read_by_field, body, shape) if read is None else read


def decoded(body: bytes, decode: Callable[[bytes], Any]) -> Any:
    """Return a body; None if msgspec refuses it, so that it has to be read again, field by field.

    No shape accepts null.

    Raises:
        Malformed: it nests too deep.
    """
    if len(body) > MAX_NESTING:
        refuse_deep(body)
    try:
        return decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


@cache
def _decoder(shape: Any) -> Callable[[bytes], Any]:
    decode = msgspec.json.Decoder(shape, strict=True).decode

    def decode_slowly(body: bytes) -> Any:
        # In two steps: `finite` reads no number of a value whose type is known, as those of a state.
        return msgspec.convert(read_any(body), shape, strict=True)

    return lambda body: decode_slowly(body) if has_many_exponents(body) else decode(body)


@cache
def decoder_of(schema: Any) -> Callable[[bytes], Any]:
    """Return the decoder of one or many; not by `_one_or_many`, as the hash of a union is computed each time."""
    return _decoder(_one_or_many(schema))


@cache
def _one_or_many(schema: Any) -> Any:
    return schema | GenericAlias(list, (schema,))
