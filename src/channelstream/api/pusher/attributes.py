"""What answers say about channels: the attributes that the parameter `info` names."""

from collections.abc import Collection
from enum import StrEnum
from typing import Any

from channelstream.core.channel import Channel
from channelstream.core.pusher_names import has_members
from channelstream.errors import BadShape

Attributes = dict[str, Any]


class Attribute(StrEnum):
    """What `info` may name."""

    USERS = "user_count"
    """How many different users are in a presence channel."""
    SUBSCRIPTIONS = "subscription_count"
    """How many connections are in a channel."""
    CACHE = "cache"
    """The last event of a cache channel."""


def read_attributes(info: str, allowed: Collection[Attribute]) -> list[Attribute]:
    """Return the attributes in a list with commas; none if it is empty.

    Raises:
        BadShape: it has one that is not allowed here.
    """
    # What is behind the last split is not allowed: so a list is as short as one that has each attribute.
    names = [name.strip() for name in info.split(",", len(Attribute))] if info.strip() else []
    for name in names:
        if name not in allowed:
            raise BadShape({"info": [f"Not one of the attributes here: {', '.join(allowed)}."]})
    return [Attribute(name) for name in names]


def counts_of(name: str, channel: Channel | None, attributes: Collection[Attribute]) -> Attributes:
    """Return those of the attributes that are counts; that of users for presence channels only.

    Args:
        name: as Pusher's clients know it.
        channel: None means that nobody is in it.
    """
    counts: Attributes = {}
    if Attribute.USERS in attributes and has_members(name):
        counts[Attribute.USERS.value] = channel.user_count if channel else 0
    if Attribute.SUBSCRIPTIONS in attributes:
        counts[Attribute.SUBSCRIPTIONS.value] = channel.connections if channel else 0
    return counts
