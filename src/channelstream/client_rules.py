"""What clients with tokens may do, as the options of all applications say."""

from collections.abc import Callable, Mapping

from channelstream.api.client_info import client_info
from channelstream.apps.api_key import ApiKey
from channelstream.apps.app import Apps
from channelstream.apps.key_ring import KeyRing
from channelstream.config import Settings
from channelstream.transports.tokens import ClientRules, Tokens


def make_client_rules(
    settings_of: Mapping[str, Settings], apps: Apps, max_faults: int, wall: Callable[[], float]
) -> ClientRules:
    """Return the rules of all applications.

    Args:
        settings_of: the settings of each application, by its id.
        apps: all applications.
        max_faults: as of `ClientRules`.
        wall: returns epoch seconds.
    """
    setting_state = frozenset(app_id for app_id, own in settings_of.items() if own.client_state)
    tokens = _tokens(settings_of, apps, wall)
    return ClientRules(tokens, client_info, setting_state, max_faults)


def _tokens(settings_of: Mapping[str, Settings], apps: Apps, wall: Callable[[], float]) -> Tokens | None:
    """Return what checks tokens; None if no application accepts any."""
    accepting = {app_id: own for app_id, own in settings_of.items() if own.token_max_age_s}
    if not accepting:
        return None
    # Here, as it imports cryptography, which takes longer than the rest of a start.
    from channelstream.auth.token import TokenAuth, TokenRules

    rules = {
        app_id: TokenRules(own.token_max_age_s, own.signature_max_ahead_s, own.token_audience)
        for app_id, own in accepting.items()
    }
    ring = KeyRing(ApiKey("", settings_of[app.id].secret, app) for app in apps)
    return Tokens(TokenAuth(rules, ring), wall, _no_keys)


async def _no_keys(_issuer: str) -> bool:
    return False
