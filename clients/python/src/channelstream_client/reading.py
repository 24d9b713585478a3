"""Converts the server's JSON to frozen dataclasses. Unknown keys are ignored."""

from collections.abc import Callable
from dataclasses import MISSING, Field, field, fields
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

from channelstream_client.errors import BadAnswer

T = TypeVar("T")


def read(kind: type[T], data: Any) -> T:
    """Convert a JSON object to a dataclass.

    Raises:
        BadAnswer: it is not an object, or lacks a key that has no default.
    """
    if not isinstance(data, dict):
        raise BadAnswer(f"expected an object for {kind.__name__}, got {type(data).__name__}")
    try:
        return kind(**{known.name: _value(known, data) for known in fields(cast(Any, kind))})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadAnswer(f"not a {kind.__name__}: {error}") from error


def read_list(kind: type[T], data: Any) -> list[T]:
    """Convert a JSON list to dataclasses.

    Raises:
        BadAnswer: it is not a list of such objects.
    """
    if not isinstance(data, list):
        raise BadAnswer(f"expected a list of {kind.__name__}, got {type(data).__name__}")
    return [read(kind, item) for item in data]


def read_bool(data: Any) -> bool:
    """Return a JSON true or false.

    Raises:
        BadAnswer: it is another value.
    """
    if not isinstance(data, bool):
        raise BadAnswer(f"expected true or false, got {data!r:.80}")
    return data


def read_number(data: Any, name: str) -> int:
    """Return a whole number of a JSON object.

    Raises:
        BadAnswer: it is another value, or there is none.
    """
    match data:
        case dict() if type(number := data.get(name)) is int:
            return number
    raise BadAnswer(f"expected a number {name!r}, got {data!r:.80}")


def read_time(text: str) -> datetime:
    """Return a time of the server, which writes UTC without a zone."""
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def parsed_field(parse: Callable[[Any], Any], **more: Any) -> Any:
    """Return a dataclass field whose JSON value is parsed, unless it is absent or null."""
    return field(metadata={"parse": parse}, **more)


def _value(known: Field[Any], data: dict[str, Any]) -> Any:
    value = data.get(known.name, MISSING)
    if value is MISSING:
        return _default(known)
    parse = known.metadata.get("parse")
    return parse(value) if parse and value is not None else value


def _default(known: Field[Any]) -> Any:
    if known.default is not MISSING:
        return known.default
    if known.default_factory is not MISSING:
        return known.default_factory()
    raise KeyError(known.name)
