"""Reads a body that its schema refuses, field by field.

All its faults are collected, in the form of 0.7.1. What 0.7.1 accepted is accepted: booleans and integers as text, nulls.
"""

import re
from collections.abc import Callable, Iterable
from functools import cache, partial
from types import NoneType
from typing import Any

import msgspec
from msgspec import inspect

from channelstream.api.fields import MISSING, TextRule
from channelstream.api.plain import read_plain
from channelstream.errors import Invalid
from channelstream.faults import Faults

MAX_FAULTS = 100
"""Most faults in one answer, so that a body full of faults costs neither time nor a long answer."""

NULL = "Field may not be null."
WRONG_INPUT = {"_schema": ["Invalid input type."]}
LONE_SURROGATE = "Not valid Unicode: half of a surrogate pair; do not cut a text inside a character."
NOT_A_STATE_VALUE = "Must be a string, a number, a boolean or null."

_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_BOOLEANS = {"true": True, "1": True, 1: True, "false": False, "0": False, 0: False}


@cache
def _described(shape: Any) -> inspect.Type:
    return inspect.type_info(shape)


def read_by_field(body: bytes, shape: Any) -> Any:
    """Return a body of this shape.

    Raises:
        Malformed: it is not JSON, or nests too deep.
        Invalid: it breaks the schema; with all its faults.
    """
    plain = read_plain(body)
    try:
        return msgspec.convert(_Walk().clean(plain, _described(shape)), shape)
    except _Fault as fault:
        raise Invalid(fault.faults if isinstance(fault.faults, dict) else WRONG_INPUT) from fault
    except msgspec.ValidationError as error:
        raise Invalid({"_schema": [str(error)]}) from error


class _Fault(Exception):
    """A value is invalid.

    Attributes:
        faults: texts about the value itself, or the faults of its parts.
    """

    def __init__(self, faults: list[str] | Faults) -> None:
        super().__init__()
        self.faults = faults


class _Walk:
    """One walk over one body. It ends early after `MAX_FAULTS` faults."""

    def __init__(self) -> None:
        self._faults_left = MAX_FAULTS

    def clean(self, value: Any, kind: inspect.Type) -> Any:
        """Return the value converted to the type that the schema requires.

        Raises:
            _Fault: it cannot be converted.
        """
        rule: TextRule | None = None
        if isinstance(kind, inspect.Metadata):
            rule, kind = (kind.extra or {}).get("rule"), kind.type
        if value is None and not isinstance(kind, _NULLABLE):
            raise _Fault([NULL])
        cleaned = _CHECKS[type(kind)](self, value, kind)
        return _apply_rule(rule, cleaned) if rule else cleaned

    def union(self, value: Any, kind: inspect.UnionType) -> Any:
        for member in kind.types:
            if type(value) is _JSON_TYPES[type(_bare(member))]:
                return self.clean(value, member)
        members = [member for member in kind.types if not isinstance(member, inspect.NoneType)]
        if len(members) > 1:
            raise _Fault([NOT_A_STATE_VALUE])
        return self.clean(value, members[0])

    def object(self, value: Any, kind: inspect.StructType) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _Fault(WRONG_INPUT)
        explain = getattr(kind.cls, "explain", None)
        faults: Faults = explain(value) if explain else {}
        named = [field for field in kind.fields if _is_named(field, value)]
        faults |= {field.name: [MISSING] for field in kind.fields if field.required and field not in named}
        self._faults_left -= len(faults)
        parts = ((field.name, partial(self.clean, value[field.name], field.type)) for field in named)
        return dict(zip((field.name for field in named), self._each(parts, faults), strict=True))

    def array(self, value: Any, kind: inspect.ListType) -> Any:
        if not isinstance(value, list):
            raise _Fault(["Not a valid list."])
        _check_length(value, kind)
        return self._each((str(i), partial(self.clean, item, kind.item_type)) for i, item in enumerate(value))

    def pair(self, value: Any, kind: inspect.TupleType) -> Any:
        if not isinstance(value, list) or len(value) != len(kind.item_types):
            raise _Fault(["Not a valid pair."])
        parts = enumerate(zip(value, kind.item_types, strict=True))
        return self._each((str(i), partial(self.clean, item, part)) for i, (item, part) in parts)

    def mapping(self, value: Any, kind: inspect.DictType) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _Fault(["Not a valid mapping type."])
        entries = (
            (_without_surrogates(key), partial(self._entry, key, item, kind)) for key, item in value.items()
        )
        return dict(self._each(entries))

    def _entry(self, key: str, item: Any, kind: inspect.DictType) -> list[Any]:
        read_key = partial(self.clean, key, kind.key_type)
        read_item = partial(self.clean, item, kind.value_type)
        return self._each((("key", read_key), ("value", read_item)))

    def _each(self, parts: Iterable[tuple[str, Callable[[], Any]]], known: Faults | None = None) -> list[Any]:
        """Clean the parts of a container, and raise all their faults together.

        Args:
            parts: for each part its key, and the function that cleans it.
            known: faults found before.
        """
        faults, cleaned = known or {}, []
        for where, clean in parts:
            if self._faults_left <= 0:
                break
            try:
                cleaned.append(clean())
            except _Fault as fault:
                self._faults_left -= 1
                faults[where] = fault.faults
        if faults:
            raise _Fault(faults)
        return cleaned


def _bare(kind: inspect.Type) -> inspect.Type:
    return kind.type if isinstance(kind, inspect.Metadata) else kind


def _is_named(field: inspect.Field, body: dict[str, Any]) -> bool:
    if body.get(field.name) is not None:
        return True
    extra = field.type.extra if isinstance(field.type, inspect.Metadata) else None
    return field.name in body and not (extra and "null_is_absent" in extra)


def _apply_rule(rule: TextRule, text: str) -> str:
    try:
        return rule.parse(text)
    except ValueError as error:
        raise _Fault([rule.fault]) from error


def _text(_: _Walk, value: Any, kind: inspect.StrType) -> str:
    if not isinstance(value, str):
        raise _Fault(["Not a valid string."])
    if not _has_no_surrogates(value):
        raise _Fault([LONE_SURROGATE])
    _check_length(value, kind)
    return value


def _integer(_: _Walk, value: Any, kind: inspect.IntType) -> int:
    number = _number_in(value)
    if number is None or number != int(number):
        raise _Fault(["Not a valid integer."])
    _check_range(number, kind)
    return int(number)


def _number(_: _Walk, value: Any, kind: inspect.FloatType) -> float:
    number = _number_in(value)
    if number is None:
        raise _Fault(["Not a valid number."])
    _check_range(number, kind)
    return number


def _number_in(value: Any) -> int | float | None:
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    return value if type(value) in (int, float) else None


def _boolean(_: _Walk, value: Any, __: inspect.BoolType) -> bool:
    written = value.lower() if isinstance(value, str) else value
    found = _BOOLEANS.get(written) if isinstance(written, str | int) else None
    if found is None:
        raise _Fault(["Not a valid boolean."])
    return found


def _unchanged(_: _Walk, value: Any, __: inspect.Type) -> Any:
    return value


def _payload(_: _Walk, value: Any, __: inspect.Type) -> Any:
    return _without_surrogates(value)


def _without_surrogates(value: Any) -> Any:
    """Replace half of a surrogate pair by U+FFFD. A payload is not refused for it: its text is the application's."""
    if isinstance(value, str):
        return (
            value
            if _has_no_surrogates(value)
            else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        )
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value


def _has_no_surrogates(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _check_length(value: str | list[Any], kind: inspect.StrType | inspect.ListType) -> None:
    least, most = kind.min_length, kind.max_length
    if (least or 0) <= len(value) and (most is None or len(value) <= most):
        return
    if most is None:
        raise _Fault([f"Shorter than minimum length {least}."])
    if least is None:
        raise _Fault([f"Longer than maximum length {most}."])
    raise _Fault([f"Length must be between {least} and {most}."])


def _check_range(number: float, kind: inspect.IntType | inspect.FloatType) -> None:
    least, most = kind.ge, kind.le
    if (least is None or least <= number) and (most is None or number <= most):
        return
    if most is None:
        raise _Fault([f"Must be at least {least}."])
    if least is None:
        raise _Fault([f"Must be at most {most}."])
    raise _Fault([f"Must be between {least} and {most}."])


_NULLABLE = (inspect.AnyType, inspect.NoneType, inspect.UnionType)
_JSON_TYPES: dict[type[inspect.Type], type] = {
    inspect.NoneType: NoneType,
    inspect.BoolType: bool,
    inspect.IntType: int,
    inspect.FloatType: float,
    inspect.StrType: str,
    inspect.ListType: list,
    inspect.DictType: dict,
    inspect.StructType: dict,
}
_CHECKS: dict[type[inspect.Type], Callable[[_Walk, Any, Any], Any]] = {
    inspect.AnyType: _payload,
    inspect.NoneType: _unchanged,
    inspect.BoolType: _boolean,
    inspect.IntType: _integer,
    inspect.FloatType: _number,
    inspect.StrType: _text,
    inspect.ListType: _Walk.array,
    inspect.TupleType: _Walk.pair,
    inspect.DictType: _Walk.mapping,
    inspect.StructType: _Walk.object,
    inspect.UnionType: _Walk.union,
}
