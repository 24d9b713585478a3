"""The protocol of Pusher's clients and SDKs, for each application that has an id, a key and a secret for it."""

from dataclasses import dataclass

from channelstream.config.option import Section
from channelstream.config.sections.kinds import PATH
from channelstream.config.values import Number, Switch, Text, Whole

_section = Section("Pusher")
_public_name = Text(
    pattern=r"[A-Za-z0-9_-]{0,64}", description="up to 64 letters, digits, dashes and underscores"
)
_prefix = Text(
    max_bytes=56,
    pattern=r"(\S*/)?",
    description="empty, or up to 56 bytes without blanks that end with a slash",
)
"""A channel of Pusher has up to 200 characters, and one of this server up to 256. No name of Pusher has a slash."""
_path = Text(
    max_bytes=128,
    pattern=r"((/[A-Za-z0-9._~-]+)+)?",
    description="empty, or a path without a slash at its end, such as /push",
)


@dataclass(frozen=True, kw_only=True)
class PusherOptions:
    """The options of the section Pusher."""

    pusher_app_id: str = _section.option(
        "",
        _public_name,
        "The app id of Pusher's server SDKs, which call /apps/ID; empty together with key and secret serves no client of"
        " Pusher.",
        per_app=True,
        identifies=True,
    )
    pusher_key: str = _section.option(
        "",
        _public_name,
        "The app key of Pusher's clients, which connect to /app/KEY; it is public.",
        per_app=True,
        identifies=True,
    )
    pusher_secret: str = _section.option(
        "",
        Text(),
        "The secret with which the server of the application signs for Pusher's clients and calls.",
        secret=True,
        per_app=True,
    )
    pusher_secret_file: str = _section.option(
        "",
        PATH,
        "Path of a file with that secret, in place of the option pusher_secret; its further lines are older secrets, which"
        " are accepted as well. SIGHUP reads it again (docs/pusher.md).",
        per_app=True,
        identifies=True,
    )
    pusher_client_events: bool = _section.option(
        True, Switch(), "Let Pusher's clients send events to private and presence channels.", per_app=True
    )
    pusher_client_event_rate: float = _section.option(
        10.0,
        Number(0.01, 100_000),
        "How many events a client of Pusher may send in a second, and at once.",
        unit="events a second",
        per_app=True,
    )
    pusher_activity_timeout_s: int = _section.option(
        120,
        Whole(1, 86_400),
        "After how much silence clients of Pusher ask whether the server is there.",
        unit="seconds",
        per_app=True,
    )
    pusher_channel_prefix: str = _section.option(
        "pusher/",
        _prefix,
        "What precedes the names of Pusher's channels here; if it is empty, anyone with the key can read every"
        " channel whose name does not begin with private- or presence-.",
        per_app=True,
    )
    pusher_path_prefix: str = _section.option(
        "",
        _path,
        "What clients and SDKs may have before /app/KEY and /apps/ID, here or at a proxy that takes it away.",
        per_app=True,
    )
