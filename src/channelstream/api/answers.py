"""What the API answers, field by field: the OpenAPI document reads these types."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from channelstream.api.schemas import (
    ChannelName,
    ChannelSettings,
    ConnId,
    MessageId,
    Payload,
    State,
    StateValue,
    Status,
    Timestamp,
    UserName,
)


class UserInfo(Struct, kw_only=True):
    """A user and its state."""

    user: UserName
    state: State


class SeedUserInfo(Struct, kw_only=True):
    """A user as the 0.2 form of `/info` tells it."""

    user: UserName
    status: int
    connections: list[str]


class StateChange(Struct, kw_only=True):
    """One key of a state, and its new value."""

    key: str
    value: StateValue


class MessageAnswer(Struct, kw_only=True):
    """A message as it was accepted, completed."""

    uuid: MessageId
    timestamp: Timestamp
    user: UserName
    channel: ChannelName | None
    pm_users: list[str]
    exclude_users: list[str]
    no_history: bool
    message: Payload = UNSET
    edited: Annotated[Timestamp | None, Meta(description="Time of the last edit; null: never edited.")]
    deleted: Annotated[
        bool | UnsetType, Meta(description="True: a message with this uuid was deleted, so nothing was sent.")
    ] = UNSET


class EditAnswer(Struct, kw_only=True):
    """An edit or a deletion as it was sent on."""

    uuid: MessageId
    channel: ChannelName | None
    found: Annotated[
        bool | UnsetType,
        Meta(
            description="False: the server does not keep the message. It is sent on, but no edit of a deleted one."
        ),
    ] = UNSET
    user: UserName | UnsetType = UNSET
    message: Payload = UNSET
    timestamp: Timestamp | UnsetType = UNSET
    edited: Timestamp | UnsetType = UNSET


class HistoryItem(Struct, kw_only=True):
    """A kept message, as browsers received it."""

    type: str
    position: Annotated[str, Meta(description="The position after this message.")]
    uuid: MessageId
    timestamp: Timestamp
    user: UserName
    channel: ChannelName
    message: Payload = UNSET
    edited: Annotated[Timestamp | None, Meta(description="Time of the last edit; null: never edited.")]
    catchup: bool


class ChannelInfo(Struct, kw_only=True):
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


class ChannelsInfo(Struct, kw_only=True):
    """Channels by name, and the users in them."""

    channels: dict[str, ChannelInfo]
    users: list[UserInfo]
    unique_users: Annotated[int | UnsetType, Meta(description="Only in the 0.2 form of `/info`.")] = UNSET


class ConnectAnswer(Struct, kw_only=True):
    """The connection as it now is; the browser opens its stream with `conn_id`."""

    conn_id: ConnId
    state: State
    username: UserName
    public_state: State
    channels: Annotated[list[str], Meta(description="All channels of the connection, sorted.")]
    channels_info: ChannelsInfo
    status: Status


class SubscribeAnswer(Struct, kw_only=True):
    """The channels a connection now has."""

    channels: Annotated[list[str], Meta(description="All channels of the connection, sorted.")]
    channels_info: ChannelsInfo
    subscribed_to: Annotated[list[str], Meta(description="The new ones, sorted.")]


class UnsubscribeAnswer(Struct, kw_only=True):
    """The channels a connection still has."""

    channels: Annotated[list[str], Meta(description="All channels of the connection, sorted.")]
    channels_info: ChannelsInfo
    unsubscribed_from: Annotated[list[str], Meta(description="Those it left, sorted.")]


class UserStateAnswer(Struct, kw_only=True):
    """A user's state after the change."""

    user_state: State
    changed_state: list[StateChange]
    public_keys: list[str]
