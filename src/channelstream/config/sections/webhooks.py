"""What the server of an application is sent about its channels, users and connections."""

from dataclasses import dataclass

from channelstream.apps.webhooks import TYPES
from channelstream.config.networks import Networks
from channelstream.config.option import Section
from channelstream.config.values import Switch
from channelstream.config.webhook_values import EventTypes, Urls, WebhookSecrets

_section = Section("Webhooks")
_ON = tuple(name for kind, name in TYPES.items() if kind not in ("opened", "closed", "message"))
"""All but those that are as many as connections and messages."""


@dataclass(frozen=True, kw_only=True)
class WebhookOptions:
    """The options of the section Webhooks."""

    webhook_urls: tuple[str, ...] = _section.option(
        (),
        Urls(),
        "Where webhooks are sent in the format of Standard Webhooks.",
        per_app=True,
        identifies=True,
    )
    webhook_secret: str = _section.option(
        "",
        WebhookSecrets(),
        "Signs the calls to webhook_urls, the newest secret first; calls are signed with all of them, so that a receiver"
        " can change to the newest at any time.",
        secret=True,
        per_app=True,
    )
    webhook_events: tuple[str, ...] = _section.option(
        _ON,
        EventTypes(),
        "What webhooks report; Pusher's format has those of channels, members, clients and caches only.",
        per_app=True,
    )
    webhook_batching: bool = _section.option(
        True,
        Switch(),
        "Send several events in one call to webhook_urls.",
        per_app=True,
    )
    webhook_networks: tuple[str, ...] = _section.option(
        (),
        Networks(),
        "Addresses and networks that are not public and yet may be sent webhooks, such as 127.0.0.1.",
        per_app=True,
    )
    pusher_webhook_urls: tuple[str, ...] = _section.option(
        (),
        Urls(),
        "Where webhooks are sent in Pusher's format, signed with pusher_secret.",
        per_app=True,
        identifies=True,
    )
    pusher_webhook_batching: bool = _section.option(
        False,
        Switch(),
        "Send several events in one call to pusher_webhook_urls.",
        per_app=True,
    )
