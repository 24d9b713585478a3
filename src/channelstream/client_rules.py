"""What clients with tokens may do, as the options of all applications say."""

from collections.abc import Callable, Mapping

from channelstream.api.client_info import client_info
from channelstream.apps.app import Apps
from channelstream.apps.key_ring import KeyRing
from channelstream.auth.issuer import Issuer
from channelstream.config import Settings
from channelstream.config.issuer_files import keys_in_file
from channelstream.config.token_issuers import read_issuers
from channelstream.service import Node
from channelstream.transports.tokens import ClientRules, ReadKeys, Tokens


def make_client_rules(
    settings_of: Mapping[str, Settings], apps: Apps, keys: KeyRing, max_faults: int, node: Node
) -> ClientRules:
    """Return the rules of all applications.

    Args:
        settings_of: the settings of each application, by its id.
        apps: all applications.
        keys: of all applications.
        max_faults: as of `ClientRules`.
        node: has the clock, and the tokens that are refused before they expire.

    Raises:
        ConfigError: the keys of an issuer cannot be used.
    """
    setting_state = frozenset(app_id for app_id, own in settings_of.items() if own.client_state)
    tokens = _tokens(settings_of, apps, keys, node)
    return ClientRules(tokens, client_info, setting_state, max_faults)


def _tokens(settings_of: Mapping[str, Settings], apps: Apps, keys: KeyRing, node: Node) -> Tokens | None:
    """Return what checks tokens; None if no application accepts any.

    Raises:
        ConfigError: a file has no keys.
    """
    accepting = {app_id: own for app_id, own in settings_of.items() if own.token_max_age_s}
    if not accepting:
        return None
    # Here, as it imports cryptography, which takes longer than the rest of a start.
    from channelstream.auth.token import TokenAuth, TokenRules

    rules = {
        app_id: TokenRules(own.token_max_age_s, own.signature_max_ahead_s, own.token_audience)
        for app_id, own in accepting.items()
    }
    issuers = [
        (Issuer(source.name, app, source.algorithm, keys_in_file(source) or {}), source.source)
        for app in apps
        if app.id in accepting
        for source in read_issuers(accepting[app.id].token_issuers)
    ]
    return Tokens(
        TokenAuth(rules, keys, (issuer for issuer, _ in issuers)),
        node.clock.wall,
        node.revocations,
        _keys_of(issuers, node.clock.steady),
    )


def _keys_of(issuers: list[tuple[Issuer, str]], steady: Callable[[], float]) -> ReadKeys | None:
    """Return what reads the keys of issuers again; None if there are no issuers."""
    if not issuers:
        return None
    # Here, as it needs the extra `tokens`.
    from channelstream.integrations.issuer_keys import IssuerKeys

    return IssuerKeys(issuers, steady)
