"""Arguments and results of the API, as frozen dataclasses. Times are aware datetimes in UTC."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any
from uuid import uuid4

from channelstream_client.names import check_lists
from channelstream_client.reading import parsed_field, read, read_list, read_time

StateValue = str | int | float | bool | None
State = Mapping[str, StateValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message to send.

    Attributes:
        user: the sender.
        message: the payload, any JSON.
        channel: the channel; None means private to `pm_users`.
        pm_users: only these users receive it; empty means all subscribers of the channel.
        exclude_users: these users do not receive it.
        no_history: do not keep it in the channel's history.
        timestamp: its time; None means the time at which the server accepts it.
        include_traceparent: send the W3C trace context of the call with it (`MessageEvent.traceparent`).
        uuid: its id, created before the first attempt. A message that is sent twice is delivered once.
    """

    user: str
    message: Any
    channel: str | None = None
    pm_users: Sequence[str] = ()
    exclude_users: Sequence[str] = ()
    no_history: bool = False
    timestamp: datetime | None = None
    include_traceparent: bool = False
    uuid: str = field(default_factory=lambda: str(uuid4()))

    def __post_init__(self) -> None:
        check_lists(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class SentMessage:
    """A message that the server accepted, or that is in a channel's history.

    Attributes:
        deleted: a message with this uuid was deleted before, so nothing was sent.
        traceparent: the W3C trace context of the call that published it, if that call asked for it.
    """

    uuid: str
    timestamp: datetime = parsed_field(read_time)
    user: str
    channel: str | None
    message: Any = None
    pm_users: Sequence[str] = ()
    exclude_users: Sequence[str] = ()
    no_history: bool = False
    edited: datetime | None = parsed_field(read_time, default=None)
    deleted: bool = False
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An edit or deletion that was sent to the subscribers.

    Attributes:
        found: whether the server still kept the message. The edit or deletion is sent in either case, except an edit of a
            deleted message.
    """

    uuid: str
    channel: str | None = None
    found: bool = True
    edited: datetime | None = parsed_field(read_time, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSettings:
    """Settings of a channel. None means unchanged; an answer has all settings.

    Attributes:
        notify_presence: send presence events.
        broadcast_presence_with_user_lists: include the full list of users in each presence event.
        notify_state: send changes of users' public state.
        store_history: keep messages for `info`.
        history_size: number of messages kept; 0 means none.
        store_frames: keep events for clients of older versions.
        log_events: events kept for resuming; 0 means none.
        log_age_s: how long events are kept, in seconds.
    """

    notify_presence: bool | None = None
    broadcast_presence_with_user_lists: bool | None = None
    notify_state: bool | None = None
    store_history: bool | None = None
    history_size: int | None = None
    store_frames: bool | None = None
    log_events: int | None = None
    log_age_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """Which channels an answer describes, and in which detail.

    Attributes:
        channels: only these channels; None means all.
        users_after: begin after this user, for the next page of a long list (`Channel.users_cut`).
    """

    channels: Sequence[str] | None = None
    exclude_channels: Sequence[str] = ()
    include_history: bool = True
    include_users: bool = True
    users_after: str | None = None
    include_connections: bool = False
    return_public_state: bool = False

    def __post_init__(self) -> None:
        check_lists(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user and its state."""

    user: str
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A channel.

    Attributes:
        history: the messages of the history, oldest first.
        total_connections, total_users: None for a client with a token that may not see the channel's members.
        users: names, sorted; empty also where `total_users` is None.
        users_cut: there are more; `Info.users_after` asks for them.
        connections: their ids, if `Info.include_connections` is set.
        connections_cut: there are more.
        position: a stream opened from there misses nothing that the history does not have.
    """

    uuid: str
    name: str
    settings: ChannelSettings = parsed_field(partial(read, ChannelSettings))
    history: Sequence[SentMessage] = parsed_field(partial(read_list, SentMessage), default=())
    last_active: datetime = parsed_field(read_time)
    total_connections: int | None = None
    total_users: int | None = None
    users: Sequence[str] = ()
    users_cut: bool = False
    connections: Sequence[str] = ()
    connections_cut: bool = False
    position: str = ""


def _channels(data: Mapping[str, Any]) -> dict[str, Channel]:
    return {name: read(Channel, channel) for name, channel in data.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Channels:
    """Channels by name, and their users.

    Attributes:
        position: position of the log at the time of the answer. A stream opened from there misses no later event.
        users_cut: some of the users that `channels` name are not among `users`.
    """

    channels: Mapping[str, Channel] = parsed_field(_channels)
    users: Sequence[User] = parsed_field(partial(read_list, User), default=())
    position: str = ""
    users_cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A connection of a user. The page opens its stream with `conn_id`."""

    conn_id: str
    username: str
    state: State
    public_state: State
    status: int
    channels: Sequence[str]
    channels_info: Channels = parsed_field(partial(read, Channels))
    position: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribed:
    """All channels of a connection after the call, and the added ones; both sorted."""

    channels: Sequence[str]
    subscribed_to: Sequence[str]
    channels_info: Channels = parsed_field(partial(read, Channels))


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsubscribed:
    """All channels of a connection after the call, and the removed ones; both sorted."""

    channels: Sequence[str]
    unsubscribed_from: Sequence[str]
    channels_info: Channels = parsed_field(partial(read, Channels))


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChange:
    """A key of a state and its new value; None if the key was removed."""

    key: str
    value: StateValue


@dataclass(frozen=True, slots=True, kw_only=True)
class UserState:
    """A user's state after a change."""

    user_state: State
    changed_state: Sequence[StateChange] = parsed_field(partial(read_list, StateChange))
    public_keys: Sequence[str]
