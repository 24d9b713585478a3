"""The fields of request bodies: their types, bounds and forms, and what the OpenAPI document says about them.

`validation` reads two marks in `Meta(extra=...)`: `"rule"` is a `TextRule` that the text must also satisfy, and
`"null_is_absent"` means that null, which old clients send, counts as a missing field.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, UnsetType

from channelstream.core import timestamps
from channelstream.core.ids import MAX_CONN_ID, normalize_conn_id, normalize_uuid
from channelstream.core.user import MAX_STATE_KEYS, StateValue

MISSING = "Missing data for required field."
MAX_NAMES = 3000
"""Most names in `pm_users` beside a channel, and in `exclude_users`: engines process such a list in one step."""
MAX_PRIVATE = 100_000
"""Most names in `pm_users` without a channel: so many are decoded in 4 ms, which is one event loop turn (measured)."""
TOO_MANY = (
    f"Name at most {MAX_NAMES:,} users in a channel; send the message several times, or without the channel."
)
NO_RECIPIENT = "Name a channel, or the users it is for in pm_users."
"""Fault of a message without recipient. An item of a list that has no `channel` key is skipped, as in older versions."""

_SAFE_INTEGER = 2**53 - 1


def parsed(parse: Callable[[str], str], text: str | UnsetType) -> str | UnsetType:
    """Return the normal form of a text, if there is one."""
    return UNSET if text is UNSET else parse(text)


@dataclass(frozen=True, slots=True)
class TextRule:
    """A rule that a text must satisfy besides its length: `parse` returns the normal form or raises ValueError."""

    parse: Callable[[str], str]
    fault: str


_CONN_ID = TextRule(normalize_conn_id, f"Must be 1 to {MAX_CONN_ID} visible characters.")
_UUID_RULE = TextRule(normalize_uuid, "Not a valid UUID.")
_DATETIME = TextRule(timestamps.normalize, "Not a valid datetime.")
EXAMPLE_ID = "2f6b5c1e-96a5-4a0e-8a39-6fd0a0d8f3c4"
"""The uuid of a message in examples."""
NULL_IS_ABSENT = Meta(extra={"null_is_absent": True})

UserName = Annotated[str, Meta(min_length=1, max_length=512, description="Name of a user.", examples=["ann"])]
SenderName = Annotated[
    str,
    Meta(
        max_length=512,
        description="Name of the user who sent it; empty for an event that a call of Pusher's protocol sent.",
        examples=["ann"],
    ),
]
ChannelName = Annotated[
    str, Meta(min_length=1, max_length=256, description="Name of a channel.", examples=["news"])
]
CONN_ID_EXAMPLE: Final = "9c1f3e52-4f0c-4f7c-8f6c-2a1f6f0e3b11"
ConnId = Annotated[
    str,
    Meta(
        description=f"Identity of a connection: 1 to {MAX_CONN_ID} visible characters, and joiners between them that a "
        "script needs. All spellings of a UUID are the same id; answers have it in lower case, with dashes.",
        examples=[CONN_ID_EXAMPLE],
        extra={"rule": _CONN_ID},
    ),
]
MessageId = Annotated[
    str,
    Meta(
        description="UUID of the message, in any spelling.",
        examples=[EXAMPLE_ID],
        extra={"rule": _UUID_RULE},
        extra_json_schema={"format": "uuid"},
    ),
]
Timestamp = Annotated[
    str,
    Meta(
        description="ISO 8601 time; UTC if it has no zone. Answers have it in UTC, without a zone, with six digits.",
        examples=["2026-05-04T09:30:00.000000"],
        extra={"rule": _DATETIME},
        extra_json_schema={"pattern": timestamps.PATTERN},
    ),
]
StateKey = Annotated[str, Meta(min_length=1, max_length=256, description="Key of a user's state.")]
State = Annotated[
    dict[StateKey, StateValue],
    Meta(
        description="A user's state: text, number or boolean by key; null removes a key.",
        examples=[{"color": "blue"}],
    ),
]
Status = Annotated[
    int,
    Meta(ge=-_SAFE_INTEGER, le=_SAFE_INTEGER, description="Status number of 0.2.", examples=[1]),
]
PublicKeys = Annotated[
    list[StateKey],
    Meta(
        max_length=MAX_STATE_KEYS,
        description="State keys that others may see. Absent or null: the public keys do not change.",
        examples=[["color"]],
        extra={"null_is_absent": True},
    ),
]
UserNames = Annotated[list[UserName], NULL_IS_ABSENT]
PrivateTo = Annotated[
    UserNames,
    Meta(
        max_length=MAX_PRIVATE,
        description=f"Only these users receive it. With a channel: at most {MAX_NAMES:,}, and only in that channel. Without"
        f" a channel: at most {MAX_PRIVATE:,}, on all their connections.",
    ),
]
Excluded = Annotated[UserNames, Meta(max_length=MAX_NAMES, description="These users do not receive it.")]
MessageChannel = Annotated[
    Annotated[str, Meta(max_length=256)] | None,
    Meta(
        description="The channel of the message. Without it and without `pm_users`, a single object is refused, and an item "
        "of a list is skipped.",
        examples=["news"],
    ),
]
Payload = Annotated[
    Any, Meta(description="Content of the message: any JSON.", examples=[{"text": "Hello, all"}])
]
Since = Annotated[
    str,
    Meta(
        description="A position that the page received, or the position of an `/info`. A stream may read the channels of "
        "this call from there, and a new connection also its private messages, as far as the log reaches. Absent, null or "
        "empty: new events only. An unreadable position, or one of another log, is no error: a stream that asks for earlier "
        "events gets the channels in `lost`.",
        examples=["k3f9a1-1234567"],
        extra={"null_is_absent": True},
    ),
]
