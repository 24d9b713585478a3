"""The request bodies of the API, field by field. Validation and the OpenAPI document use these types.

Names and meanings are those of the 0.7 API, and of the seed (0.2). UNSET means that the caller did not send the field.
"""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from channelstream.api.fields import (
    MAX_NAMES,
    MISSING,
    NO_RECIPIENT,
    NULL_IS_ABSENT,
    TOO_MANY,
    ChannelName,
    ConnId,
    Excluded,
    MessageChannel,
    MessageId,
    Payload,
    PrivateTo,
    PublicKeys,
    Since,
    State,
    Status,
    Timestamp,
    UserName,
    parsed,
)
from channelstream.core import timestamps
from channelstream.core.ids import normalize_conn_id, normalize_uuid
from channelstream.faults import Faults

MAX_HISTORY_SIZE = 100_000
"""Upper bound of `history_size`."""
MAX_LOG_EVENTS = 100_000
"""Upper bound of `log_events`."""
MAX_LOG_AGE_S = 7 * 24 * 3600
"""Upper bound of `log_age_s`, in seconds."""


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


class ConnectBody(Struct, kw_only=True):
    """Body of `/connect`: register a connection of a user before its browser opens a stream.

    Either `username` or `user` is required. `user` alone selects the protocol of 0.2 for this connection.
    """

    username: UserName | UnsetType = UNSET
    user: UserName | UnsetType = UNSET
    conn_id: Annotated[ConnId, NULL_IS_ABSENT] | UnsetType = UNSET
    channels: Annotated[list[ChannelName], NULL_IS_ABSENT, Meta(description="Channels to subscribe to.")] = []
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
        if self.conn_id is not UNSET:
            self.conn_id = normalize_conn_id(self.conn_id)
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
    conn_id: Annotated[ConnId, NULL_IS_ABSENT] | UnsetType = UNSET
    channel_configs: Annotated[
        ChannelConfigs, Meta(description="Settings for those of `channels` that are new.")
    ] = {}
    info: Annotated[InfoOptions, Meta(description="Content of `channels_info` in the answer.")] = (
        InfoOptions()
    )
    since: Since | UnsetType = UNSET

    def __post_init__(self) -> None:
        self.conn_id = parsed(normalize_conn_id, self.conn_id)
        self.channels = list(dict.fromkeys(self.channels))


class UnsubscribeBody(Struct, kw_only=True):
    """Body of `/unsubscribe`: unsubscribe a connection from channels. `conn_id` may be in the query instead."""

    channels: Annotated[list[ChannelName], Meta(min_length=1, description="Channels to leave.")]
    conn_id: Annotated[ConnId, NULL_IS_ABSENT] | UnsetType = UNSET
    info: Annotated[InfoOptions, Meta(description="Content of `channels_info` in the answer.")] = (
        InfoOptions()
    )

    def __post_init__(self) -> None:
        self.conn_id = parsed(normalize_conn_id, self.conn_id)
        self.channels = list(dict.fromkeys(self.channels))


class DisconnectBody(Struct, kw_only=True):
    """Body of `/disconnect`: end a connection. `conn_id` may be in the query instead."""

    conn_id: Annotated[ConnId, NULL_IS_ABSENT] | UnsetType = UNSET

    def __post_init__(self) -> None:
        self.conn_id = parsed(normalize_conn_id, self.conn_id)


class RevokeBody(Struct, kw_only=True):
    """Body of `/revoke`: either a user, or the `jti` of a token."""

    user: Annotated[UserName, NULL_IS_ABSENT] | UnsetType = UNSET
    jti: (
        Annotated[
            str,
            NULL_IS_ABSENT,
            Meta(min_length=1, max_length=256, description="Name of a token.", examples=["t-1"]),
        ]
        | UnsetType
    ) = UNSET


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
    include_traceparent: Annotated[
        bool, Meta(description="Send the trace context of this call with the message, as `traceparent`.")
    ] = False
    uuid: Annotated[MessageId, NULL_IS_ABSENT] | UnsetType = UNSET
    timestamp: Annotated[Timestamp, NULL_IS_ABSENT] | UnsetType = UNSET

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
    user: Annotated[UserName, NULL_IS_ABSENT] | UnsetType = UNSET
    timestamp: Annotated[Timestamp, NULL_IS_ABSENT] | UnsetType = UNSET
    edited: (
        Annotated[Timestamp, NULL_IS_ABSENT, Meta(description="Time of the edit; now if absent.")] | UnsetType
    ) = UNSET

    def __post_init__(self) -> None:
        self.uuid = normalize_uuid(self.uuid)
        self.timestamp = parsed(timestamps.normalize, self.timestamp)
        self.edited = parsed(timestamps.normalize, self.edited)
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
        Annotated[list[str], NULL_IS_ABSENT, Meta(description="The 0.2 form; empty: all channels.")]
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
