"""The answers of the API, field by field. The OpenAPI document is generated from these types."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from channelstream.api.fields import (
    ChannelName,
    ConnId,
    MessageId,
    Payload,
    SenderName,
    State,
    Status,
    Timestamp,
    UserName,
)
from channelstream.api.schemas import ChannelSettings
from channelstream.core.user import StateValue


class UserInfo(Struct, kw_only=True):
    """A user and its state."""

    user: UserName
    state: State


class SeedUserInfo(Struct, kw_only=True):
    """A user in the 0.2 form of `/info`."""

    user: UserName
    status: int
    connections: list[str]


class StateChange(Struct, kw_only=True):
    """A key of a state, and its new value."""

    key: str
    value: StateValue


class MessageAnswer(Struct, kw_only=True, gc=False):
    """The accepted message, with the values that the server set."""

    pm_users: list[str]
    exclude_users: list[str]
    channel: ChannelName | None
    no_history: bool
    uuid: MessageId
    timestamp: Timestamp
    user: UserName
    edited: Annotated[Timestamp | None, Meta(description="Time of the last edit; null: never edited.")]
    message: Payload = UNSET
    deleted: Annotated[
        bool | UnsetType, Meta(description="True: a message with this uuid was deleted, so nothing was sent.")
    ] = UNSET


class EditAnswer(Struct, kw_only=True):
    """The edit or deletion that was sent to the subscribers."""

    uuid: MessageId
    channel: ChannelName | None
    found: Annotated[
        bool | UnsetType,
        Meta(
            description="False: the server does not keep the message. The edit or deletion is sent nevertheless, except"
            " an edit of a deleted message."
        ),
    ] = UNSET
    user: UserName | UnsetType = UNSET
    message: Payload = UNSET
    timestamp: Timestamp | UnsetType = UNSET
    edited: Timestamp | UnsetType = UNSET


class HistoryItem(Struct, kw_only=True):
    """A message of the history, as browsers received it."""

    type: str
    position: Annotated[str, Meta(description="The position after this message.")]
    uuid: MessageId
    timestamp: Timestamp
    user: SenderName
    channel: ChannelName
    message: Payload = UNSET
    edited: Annotated[Timestamp | None, Meta(description="Time of the last edit; null: never edited.")]
    catchup: bool
    traceparent: Annotated[
        str | UnsetType,
        Meta(description="The trace context of the call that sent it, if that call asked for it."),
    ] = UNSET


class ChannelInfo(Struct, kw_only=True, gc=False):
    """A channel."""

    uuid: str
    name: ChannelName
    long_name: None
    settings: ChannelSettings
    history: Annotated[list[HistoryItem], Meta(description="The kept messages, oldest first.")]
    last_active: Timestamp
    total_connections: int
    total_users: int
    users: Annotated[
        list[str | SeedUserInfo], Meta(description="Names, sorted; in the 0.2 form of `/info` objects.")
    ]
    position: Annotated[str, Meta(description="The position of this description.")]
    users_cut: Annotated[bool | UnsetType, Meta(description="True: the channel has users after these.")] = (
        UNSET
    )
    connections: Annotated[list[str] | UnsetType, Meta(description="Ids, sorted, if they are asked for.")] = (
        UNSET
    )
    connections_cut: Annotated[
        bool | UnsetType, Meta(description="True: the channel has connections after these.")
    ] = UNSET


class ChannelsInfo(Struct, kw_only=True, gc=False):
    """Channels by name, and their users."""

    channels: dict[str, ChannelInfo]
    users: list[UserInfo]
    position: Annotated[str, Meta(description="The position of this description.")]
    users_cut: Annotated[bool | UnsetType, Meta(description="True: channels have users after these.")] = UNSET
    unique_users: Annotated[int | UnsetType, Meta(description="Only in the 0.2 form of `/info`.")] = UNSET


class ConnectAnswer(Struct, kw_only=True, gc=False):
    """The registered connection. The browser opens its stream with `conn_id`."""

    conn_id: ConnId
    state: State
    username: UserName
    public_state: State
    position: Annotated[str, Meta(description="That of `channels_info`.")]
    channels: Annotated[list[str], Meta(description="All channels of the connection, sorted.")]
    channels_info: ChannelsInfo
    status: Status


class SubscribeAnswer(Struct, kw_only=True):
    """The channels of a connection after the call."""

    channels: Annotated[list[str], Meta(description="All channels of the connection, sorted.")]
    channels_info: ChannelsInfo
    subscribed_to: Annotated[list[str], Meta(description="The channels that were added, sorted.")]


class UnsubscribeAnswer(Struct, kw_only=True):
    """The channels that remain after the call."""

    channels: Annotated[list[str], Meta(description="All channels of the connection, sorted.")]
    channels_info: ChannelsInfo
    unsubscribed_from: Annotated[list[str], Meta(description="The channels that were removed, sorted.")]


class RevokeAnswer(Struct, kw_only=True):
    """What a revocation did at once."""

    ended: Annotated[int, Meta(description="How many connections were ended, at all nodes.", examples=[1])]


class UserStateAnswer(Struct, kw_only=True):
    """A user's state after the change."""

    user_state: State
    changed_state: list[StateChange]
    public_keys: list[str]
