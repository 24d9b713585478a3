"""The receivers of webhooks that the options describe, and the facts that they want."""

from collections.abc import Iterable, Iterator

from channelstream.apps.app import Apps
from channelstream.apps.wanted_facts import AppFacts, WantedFacts
from channelstream.apps.webhooks import PUSHER_TYPES, TYPES, Receiver
from channelstream.config.applications import settings_by_app
from channelstream.config.settings import Settings
from channelstream.config.webhook_values import keys_of
from channelstream.core.pusher_names import INTERNAL

_KINDS = {name: kind for kind, name in TYPES.items()}


def make_receivers(settings: Settings, apps: Apps) -> list[Receiver]:
    """Return the receivers of all applications; `safety` has refused those that lack a secret."""
    own = settings_by_app(settings)
    return [receiver for app in apps for receiver in _receivers(own[app.id], apps, app.id)]


def _receivers(settings: Settings, apps: Apps, app_id: str) -> Iterator[Receiver]:
    kinds = frozenset(_KINDS[name] for name in settings.webhook_events)
    networks, secrets = settings.webhook_networks, keys_of(settings.webhook_secret)
    for url in settings.webhook_urls:
        yield Receiver(app_id, url, kinds, secrets, None, settings.webhook_batching, networks)
    pusher = next(app.pusher for app in apps if app.id == app_id)
    for url in settings.pusher_webhook_urls if pusher else ():
        of_pusher, batching = kinds & PUSHER_TYPES.keys(), settings.pusher_webhook_batching
        yield Receiver(app_id, url, of_pusher, (), pusher, batching, networks)


def wanted_facts(receivers: Iterable[Receiver], apps: Apps) -> WantedFacts:
    """Return the facts that these receivers want."""
    kinds: dict[str, frozenset[str]] = {}
    for receiver in receivers:
        kinds[receiver.app_id] = kinds.get(receiver.app_id, frozenset()) | receiver.kinds
    hidden = {app.id: (app.pusher.channel(INTERNAL),) if app.pusher else () for app in apps}
    return WantedFacts({app_id: AppFacts(each, hidden[app_id]) for app_id, each in kinds.items()})
