"""Channels: first and last connections of users, and the effect of settings on the logs."""

import pytest
from msgspec.structs import replace

from channelstream.core.budget import Budget
from channelstream.core.channel import Channel, ChannelSettings
from channelstream.core.client_protocol import PresenceAudience
from channelstream.core.entry import Entry
from channelstream.core.events import Message
from channelstream.core.log import LogLimits


def channel(settings: ChannelSettings | None = None) -> Channel:
    settings = settings or ChannelSettings()
    return Channel("a", "id", settings, settings.log_limits(15.0), Budget(10**6), 0, 100.0)


def entry(offset: int) -> Entry:
    event = Message(uuid=f"m{offset}", channel="a", user="ann", payload=b"1", timestamp="t")
    return Entry(offset, ("e",), float(offset), event)


def test_the_defaults_are_those_of_the_second_generation() -> None:
    """Six settings with the values 0.7.1 gave them."""
    settings = ChannelSettings()
    assert not settings.notify_presence
    assert not settings.store_history
    assert settings.history_size == 10
    assert not settings.broadcast_presence_with_user_lists
    assert not settings.notify_state
    assert settings.store_frames


def test_users_are_known_or_only_counted() -> None:
    """A channel read without its users still has their number."""
    room = channel()
    room.set_user_count(3)
    assert (room.user_count, room.users) == (3, {})
    room.join("ann", presence=PresenceAudience.IF_ANNOUNCED)
    assert room.user_count == 1


def test_the_first_connection_of_a_user_joins_and_the_last_one_leaves() -> None:
    """Connections in between are counted and announce nothing."""
    room = channel()
    assert room.join("ann", presence=PresenceAudience.IF_ANNOUNCED)
    assert not room.join("ann", presence=PresenceAudience.ALWAYS)
    assert room.join("bob", presence=PresenceAudience.IF_ANNOUNCED)
    assert (room.users, room.connections, room.always_connections) == ({"ann": 2, "bob": 1}, 3, 1)
    assert not room.leave("ann", presence=PresenceAudience.ALWAYS)
    assert room.leave("ann", presence=PresenceAudience.IF_ANNOUNCED)
    assert (room.users, room.connections, room.always_connections) == ({"bob": 1}, 1, 0)


def test_channels_that_nobody_is_in_share_what_is_empty() -> None:
    """Most of those that a server knows: what each has of its own counts in gigabytes."""
    left, new, used = channel(), channel(), channel()
    left.join("ann", presence=PresenceAudience.IF_ANNOUNCED)
    used.join("bob", presence=PresenceAudience.IF_ANNOUNCED)
    assert left.users is not used.users
    left.leave("ann", presence=PresenceAudience.IF_ANNOUNCED)
    assert left.users is new.users
    assert (new.users, used.users) == ({}, {"bob": 1})


def test_channels_with_the_same_settings_share_their_limits() -> None:
    """Equal ones, and not only those of one object."""
    first, second = channel(ChannelSettings(log_events=7)), channel(ChannelSettings(log_events=7))
    assert first.log.limits is second.log.limits
    assert first.history.limits is second.history.limits


def test_leaving_without_having_joined_raises() -> None:
    """The counts stay as they were."""
    room = channel()
    with pytest.raises(KeyError):
        room.leave("ann", presence=PresenceAudience.IF_ANNOUNCED)
    assert room.connections == 0


@pytest.mark.parametrize(
    ("settings", "events"),
    [
        (ChannelSettings(), 0),
        (ChannelSettings(store_history=True), 10),
        (ChannelSettings(store_history=True, history_size=0), 0),
        (ChannelSettings(store_history=False, history_size=5), 0),
    ],
)
def test_history_shows_nothing_unless_asked_for(settings: ChannelSettings, events: int) -> None:
    """A size of 0 means none, and so does history that is off; its age does not matter."""
    assert settings.history_limits() == LogLimits(events, None)


@pytest.mark.parametrize(
    ("settings", "limits"),
    [
        (ChannelSettings(), LogLimits(1000, 600.0)),
        (ChannelSettings(store_frames=False), LogLimits(1000, 15.0)),
        (ChannelSettings(log_age_s=5.0), LogLimits(1000, 15.0)),
        (ChannelSettings(log_events=0), LogLimits(0, 600.0)),
    ],
)
def test_the_log_always_bridges_two_polls(settings: ChannelSettings, limits: LogLimits) -> None:
    """Its age limit is never below the time between two polls, whatever the settings say."""
    assert settings.log_limits(15.0) == limits


def test_new_settings_shrink_the_logs_at_once() -> None:
    """Both logs apply the new limits as soon as they are set."""
    room = channel(ChannelSettings(store_history=True, history_size=5))
    for number in range(1, 6):
        room.log.append(entry(number))
        room.history.append(entry(number))
    settings = replace(room.settings, history_size=2, log_events=3)
    room.configure(settings, settings.log_limits(15.0), 5.0)
    assert room.settings is settings
    assert [kept.offset for kept in room.log.entries] == [3, 4, 5]
    assert [kept.offset for kept in room.history.entries] == [4, 5]
    assert room.log.floor == 2
