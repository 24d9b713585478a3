"""The request bodies of the API, field by field. Validation and the OpenAPI document use these types.

Names and meanings are those of the 0.7 API, and of the seed (0.2). UNSET means that the caller did not send the field.
`validation` reads two marks in `Meta(extra=...)`: `"rule"` is a `TextRule` that the text must also satisfy, and
`"null_is_absent"` means that null, which old clients send, counts as a missing field.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from channelstream.core import timestamps
from channelstream.core.ids import MAX_CONN_ID, normalize_conn_id, normalize_uuid
from channelstream.core.user import MAX_STATE_KEYS
from channelstream.errors import Faults

MAX_HISTORY_SIZE = 100_000
"""Upper bound of `history_size`."""
MAX_LOG_EVENTS = 100_000
"""Upper bound of `log_events`."""
MAX_LOG_AGE_S = 7 * 24 * 3600
"""Upper bound of `log_age_s`, in seconds."""
MISSING = "Missing data for required field."
MAX_NAMES = 3000
"""Most names in `pm_users` beside a channel, and in `exclude_users`: engines process such a list in one step."""
MAX_PRIVATE = 100_000
"""Most names in `pm_users` without a channel: so many are read and made a set in 40 ms, which is one event loop turn."""
TOO_MANY = (
    f"Name at most {MAX_NAMES:,} users in a channel; send the message several times, or without the channel."
)
NO_RECIPIENT = "Name a channel, or the users it is for in pm_users."
"""Fault of a message without recipient. An item of a list that has no `channel` key is skipped, as in older versions."""

_SAFE_INTEGER = 2**53 - 1


def _parsed(parse: Callable[[str], str], text: str | UnsetType) -> str | UnsetType:
    return UNSET if text is UNSET else parse(text)


@dataclass(frozen=True, slots=True)
class TextRule:
    """A rule that a text must satisfy besides its length: `parse` returns the normal form or raises ValueError."""

    parse: Callable[[str], str]
    fault: str


_CONN_ID = TextRule(normalize_conn_id, f"Must be 1 to {MAX_CONN_ID} visible characters.")
_UUID_RULE = TextRule(normalize_uuid, "Not a valid UUID.")
_DATETIME = TextRule(timestamps.normalize, "Not a valid datetime.")
_NULL_IS_ABSENT = Meta(extra={"null_is_absent": True})

UserName = Annotated[str, Meta(min_length=1, max_length=512, description="Name of a user.", examples=["ann"])]
ChannelName = Annotated[
    str, Meta(min_length=1, max_length=256, description="Name of a channel.", examples=["news"])
]
ConnId = Annotated[
    str,
    Meta(
        description=f"Identity of a connection: 1 to {MAX_CONN_ID} visible characters. All spellings of a UUID "
        "are the same id; answers have it in lower case, with dashes.",
        examples=["9c1f3e52-4f0c-4f7c-8f6c-2a1f6f0e3b11"],
        extra={"rule": _CONN_ID},
    ),
]
MessageId = Annotated[
    str,
    Meta(
        description="UUID of the message, in any spelling.",
        examples=["2f6b5c1e-96a5-4a0e-8a39-6fd0a0d8f3c4"],
        extra={"rule": _UUID_RULE},
        extra_json_schema={"format": "uuid"},
    ),
]
Timestamp = Annotated[
    str,
    Meta(
        description="ISO 8601 time; UTC if it has no zone. Answers have it in UTC, without a zone, with six digits.",
        examples=["2011-09-15T11:36:18.471862"],
        extra={"rule": _DATETIME},
        extra_json_schema={"pattern": timestamps.PATTERN},
    ),
]
StateKey = Annotated[str, Meta(min_length=1, max_length=256, description="Key of a user's state.")]
StateValue = str | int | float | bool | None
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
UserNames = Annotated[list[UserName], _NULL_IS_ABSENT]
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


class ChannelSettings(Struct, kw_only=True):
    """Settings of a channel. A setting that is absent does not change; an answer has all settings."""

    notify_presence: Annotated[bool, Meta(description="Send presence events to subscribers.")] | UnsetType = (
        UNSET
    )
    store_history: Annotated[bool, Meta(description="Keep messages for `/info`.")] | UnsetType = UNSET
    history_size: (
        Annotated[int, Meta(ge=0, le=MAX_HISTORY_SIZE, description="Messages kept for `/info`; 0: none.")]
        | UnsetType
    ) = UNSET
    broadcast_presence_with_user_lists: (
        Annotated[bool, Meta(description="Put the full list of users into each presence event.")] | UnsetType
    ) = UNSET
    notify_state: Annotated[bool, Meta(description="Send changes of public state.")] | UnsetType = UNSET
    store_frames: Annotated[bool, Meta(description="Keep frames for clients that catch up.")] | UnsetType = (
        UNSET
    )
    log_events: (
        Annotated[int, Meta(ge=0, le=MAX_LOG_EVENTS, description="Events kept for resuming; 0: none.")]
        | UnsetType
    ) = UNSET
    log_age_s: (
        Annotated[float, Meta(ge=0, le=MAX_LOG_AGE_S, description="How long events are kept, in seconds.")]
        | UnsetType
    ) = UNSET


ChannelConfigs = Annotated[
    dict[ChannelName, ChannelSettings],
    Meta(description="Settings by channel.", examples=[{"news": {"store_history": True}}]),
]
ChannelConfigBody = ChannelConfigs | list[tuple[ChannelName, ChannelSettings]]
"""Body of `/channel_config`: settings by channel, or the 0.2 program's list of pairs."""


class InfoOptions(Struct, kw_only=True, frozen=True):
    """Which channels an answer describes, and in which detail."""

    include_history: Annotated[bool, Meta(description="Include the messages of the history.")] = True
    include_users: Annotated[bool, Meta(description="Include the users and their state.")] = True
    channels: Annotated[
        list[str] | None, Meta(description="Only these channels; null: all, empty: none. Unknown: skipped.")
    ] = None
    exclude_channels: Annotated[list[str], Meta(description="Leave these channels out.")] = []
    include_connections: Annotated[bool, Meta(description="Include the connections of each channel.")] = False
    users_after: Annotated[
        str,
        Meta(
            max_length=512, description="Include only users after this name: for reading users page by page."
        ),
    ] = ""
    return_public_state: Annotated[bool, Meta(description="Include only the public part of states.")] = False


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


class ConnectBody(Struct, kw_only=True):
    """Body of `/connect`: register a connection of a user before its browser opens a stream.

    Either `username` or `user` is required. `user` alone selects the protocol of 0.2 for this connection.
    """

    username: UserName | UnsetType = UNSET
    user: UserName | UnsetType = UNSET
    conn_id: Annotated[ConnId, _NULL_IS_ABSENT] | UnsetType = UNSET
    channels: Annotated[
        list[ChannelName], _NULL_IS_ABSENT, Meta(description="Channels to subscribe to.")
    ] = []
    state_public_keys: PublicKeys | UnsetType = UNSET
    fresh_user_state: Annotated[State, Meta(description="Initial state, used only if the user is new.")] = {}
    user_state: State = {}
    channel_configs: Annotated[
        ChannelConfigs, Meta(description="Settings for those of `channels` that are new.")
    ] = {}
    info: Annotated[InfoOptions, Meta(description="Content of `channels_info` in the answer.")] = (
        InfoOptions()
    )
    status: Status | UnsetType = UNSET
    since: Since | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.username is UNSET and self.user is UNSET:
            raise ValueError(MISSING)
        self.conn_id = _parsed(normalize_conn_id, self.conn_id)
        self.channels = list(dict.fromkeys(self.channels))

    @staticmethod
    def explain(plain: dict[str, Any]) -> Faults:
        """Return the fault that no single field shows: neither `username` nor `user` is there."""
        return {} if "username" in plain or "user" in plain else {"username": [MISSING]}

    @property
    def name(self) -> str:
        """The user's name: `username` if both are there."""
        return self.username or self.user or ""

    @property
    def speaks_seed(self) -> bool:
        """Whether this connection speaks the seed protocol (docs/api.md, "Compatibility with older programs")."""
        return self.username is UNSET


class SubscribeBody(Struct, kw_only=True):
    """Body of `/subscribe`: subscribe a connection to channels. `conn_id` may be in the query instead."""

    channels: Annotated[list[ChannelName], Meta(min_length=1, description="Channels to subscribe to.")]
    conn_id: Annotated[ConnId, _NULL_IS_ABSENT] | UnsetType = UNSET
    channel_configs: Annotated[
        ChannelConfigs, Meta(description="Settings for those of `channels` that are new.")
    ] = {}
    info: Annotated[InfoOptions, Meta(description="Content of `channels_info` in the answer.")] = (
        InfoOptions()
    )
    since: Since | UnsetType = UNSET

    def __post_init__(self) -> None:
        self.conn_id = _parsed(normalize_conn_id, self.conn_id)
        self.channels = list(dict.fromkeys(self.channels))


class UnsubscribeBody(Struct, kw_only=True):
    """Body of `/unsubscribe`: unsubscribe a connection from channels. `conn_id` may be in the query instead."""

    channels: Annotated[list[ChannelName], Meta(min_length=1, description="Channels to leave.")]
    conn_id: Annotated[ConnId, _NULL_IS_ABSENT] | UnsetType = UNSET
    info: Annotated[InfoOptions, Meta(description="Content of `channels_info` in the answer.")] = (
        InfoOptions()
    )

    def __post_init__(self) -> None:
        self.conn_id = _parsed(normalize_conn_id, self.conn_id)
        self.channels = list(dict.fromkeys(self.channels))


class DisconnectBody(Struct, kw_only=True):
    """Body of `/disconnect`: end a connection. `conn_id` may be in the query instead."""

    conn_id: Annotated[ConnId, _NULL_IS_ABSENT] | UnsetType = UNSET

    def __post_init__(self) -> None:
        self.conn_id = _parsed(normalize_conn_id, self.conn_id)


class UserStateBody(Struct, kw_only=True):
    """Body of `/user_state`: change keys of a user's state. Null removes a key."""

    user: UserName
    user_state: State = {}
    state_public_keys: PublicKeys | UnsetType = UNSET


class UserStatusBody(Struct, kw_only=True):
    """Body of `/user_status`, a call of 0.2: set the public state key `status`."""

    user: UserName
    status: Status


def _channel_for(channel: str | None, pm_users: list[str]) -> str | None:
    """Return the channel of a message, or None. Old programs write an empty channel beside `pm_users`.

    Raises:
        ValueError: the channel is empty and there are no users, or there are too many users for a channel.
    """
    if channel == "" and not pm_users:
        raise ValueError(NO_RECIPIENT)
    if channel and len(pm_users) > MAX_NAMES:
        raise ValueError(TOO_MANY)
    return channel or None


def _explain_channel(plain: dict[str, Any]) -> Faults:
    """Return the faults that no single field shows."""
    channel, pm_users = plain.get("channel"), plain.get("pm_users")
    if channel == "" and not pm_users:
        return {"channel": [NO_RECIPIENT]}
    return (
        {"pm_users": [TOO_MANY]}
        if channel and isinstance(pm_users, list) and len(pm_users) > MAX_NAMES
        else {}
    )


class MessageBody(Struct, kw_only=True):
    """A message to a channel, to users, or to users of a channel."""

    user: UserName
    channel: MessageChannel = None
    pm_users: PrivateTo = []
    exclude_users: Excluded = []
    no_history: Annotated[bool, Meta(description="Keep it out of the history.")] = False
    message: Payload = UNSET
    uuid: Annotated[MessageId, _NULL_IS_ABSENT] | UnsetType = UNSET
    timestamp: Annotated[Timestamp, _NULL_IS_ABSENT] | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.uuid is not UNSET:
            self.uuid = normalize_uuid(self.uuid)
        if self.timestamp is not UNSET:
            self.timestamp = timestamps.normalize(self.timestamp)
        if self.message is None:
            self.message = UNSET
        if not self.channel or self.pm_users:
            self.channel = _channel_for(self.channel, self.pm_users)

    explain = staticmethod(_explain_channel)


class EditBody(Struct, kw_only=True):
    """An edit of a message: the fields that are there replace those of the message."""

    uuid: MessageId
    channel: MessageChannel = None
    pm_users: PrivateTo = []
    exclude_users: Excluded = []
    message: Payload = UNSET
    user: Annotated[UserName, _NULL_IS_ABSENT] | UnsetType = UNSET
    timestamp: Annotated[Timestamp, _NULL_IS_ABSENT] | UnsetType = UNSET
    edited: (
        Annotated[Timestamp, _NULL_IS_ABSENT, Meta(description="Time of the edit; now if absent.")]
        | UnsetType
    ) = UNSET

    def __post_init__(self) -> None:
        self.uuid = normalize_uuid(self.uuid)
        self.timestamp = _parsed(timestamps.normalize, self.timestamp)
        self.edited = _parsed(timestamps.normalize, self.edited)
        if self.message is None:
            self.message = UNSET
        self.channel = _channel_for(self.channel, self.pm_users)

    explain = staticmethod(_explain_channel)


class DeleteBody(Struct, kw_only=True):
    """A message to delete."""

    uuid: MessageId
    channel: MessageChannel = None
    pm_users: PrivateTo = []
    exclude_users: Excluded = []

    def __post_init__(self) -> None:
        self.uuid = normalize_uuid(self.uuid)
        self.channel = _channel_for(self.channel, self.pm_users)

    explain = staticmethod(_explain_channel)


class InfoBody(Struct, kw_only=True):
    """Body of `/info`: `info` is the 0.7 form, `channels` at top level the 0.2 form. `{}` means everything."""

    info: Annotated[InfoOptions, Meta(description="The 0.7 form.")] | UnsetType = UNSET
    channels: (
        Annotated[list[str], _NULL_IS_ABSENT, Meta(description="The 0.2 form; empty: all channels.")]
        | UnsetType
    ) = UNSET

    @property
    def is_seed_form(self) -> bool:
        """Whether the answer has the 0.2 form (docs/api.md, "Compatibility with older programs")."""
        return self.info is UNSET and self.channels is not UNSET

    @property
    def options(self) -> InfoOptions:
        """The options of the request, in either form."""
        return self.info or InfoOptions(channels=self.channels or None)
