"""The `user_info` of members of Pusher's presence channels, as a state of ours, which has no nesting."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from channelstream.core.numbers import finite

INFO_KEY: Final = "pusher:user_info"
"""The key of the exact JSON text; a client of ours sees it beside the keys that are made of it."""
MAX_KEYS: Final = 200
"""Most keys that a state takes over from an info; of an info with more it has the text only."""
MAX_NUMBER: Final = 2**53
"""Greater whole numbers are no keys of the state: a client would read another number (RFC 8259, section 6)."""
NO_INFO: Final = "null"

_Value = str | int | float | bool
_decode = msgspec.json.Decoder(dict[str, Any], float_hook=finite).decode
_encode = msgspec.json.Encoder().encode


def state_of(info: str | None) -> dict[str, _Value]:
    """Return the public state of a member with this info: its text, and its keys with texts, numbers and booleans.

    Args:
        info: JSON; None if the member has none.
    """
    if info is None:
        return {}
    return {**_shown(info), INFO_KEY: info}


def _shown(info: str) -> dict[str, _Value]:
    try:
        values = _decode(info)
    except ValueError:  # No object, or what `loads` of another library takes for JSON.
        return {}
    shown = {key: value for key, value in values.items() if _is_shown(value)}
    return shown if len(shown) <= MAX_KEYS else {}


def _is_shown(value: object) -> bool:
    if isinstance(value, int):
        return abs(value) <= MAX_NUMBER
    return isinstance(value, str | float)


def info_of(state: Mapping[str, Any] | None) -> str:
    """Return the info of a member as JSON: the text that it joined with, or the public state of a user of ours."""
    if not state:
        return NO_INFO
    info = state.get(INFO_KEY)
    return info if isinstance(info, str) else _encode(state).decode()
