"""The names of Pusher's channels: which are valid, and what their beginnings mean."""

import re

MAX_CHANNEL = 200
"""Longest name of a channel, in characters; Pusher's documents say 164, and its SDKs allow 200."""
INTERNAL = "#"
"""Begins the names of internal channels, such as the next two: nothing lists or reports them."""
OF_USER = "#server-to-user-"
"""Begins the name of the channel of a user who has signed in."""
SIGNED_IN = "#signed-in-"
"""Begins the name of the internal channel that holds all lines of a user who has signed in."""
KEEP_LAST_S = 1800.0
"""How long a cache channel keeps its last event."""

_CHANNEL = re.compile(rf"[-a-zA-Z0-9_=@,.;]{{1,{MAX_CHANNEL}}}")
_SIGNED = ("private-", "presence-")
_PRESENCE = "presence-"
_CACHE = re.compile(r"(?:private-encrypted-|private-|presence-)?cache-")


def is_channel_name(text: str) -> bool:
    """Whether a channel of Pusher may have this name, that of a user aside."""
    return _CHANNEL.fullmatch(text) is not None


def is_of_user(text: str) -> bool:
    """Whether this is the name of the channel of some user."""
    return len(OF_USER) < len(text) <= MAX_CHANNEL and text.startswith(OF_USER)


def needs_signature(channel: str) -> bool:
    """Whether clients subscribe to a channel only with a signature of their application."""
    return channel.startswith(_SIGNED)


def has_members(channel: str) -> bool:
    """Whether it is a presence channel: those who subscribe are its members, by name."""
    return channel.startswith(_PRESENCE)


def keeps_last(channel: str) -> bool:
    """Whether it is a cache channel: its last event is kept for those who subscribe later."""
    return _CACHE.match(channel) is not None
