"""The applications that the options describe, and how their calls are authenticated."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from channelstream.apps.api_key import ApiKey
from channelstream.apps.app import App, AppLimits, Apps
from channelstream.apps.key_ring import KeyRing
from channelstream.apps.keys import DEFAULT
from channelstream.apps.pusher_app import PusherApp, PusherSecrets
from channelstream.auth.access import AppAccess, RequestSigning
from channelstream.auth.bearer import BearerAuth
from channelstream.auth.foreign import ForeignChecker
from channelstream.auth.hmac import HmacAuth
from channelstream.auth.keyed import KeyFinder, OnOlder
from channelstream.auth.scheme import SchemeAuth
from channelstream.auth.signature import Checker, SignatureAuth, SignatureRules
from channelstream.config.app_names import SECTION_PREFIX
from channelstream.config.keys_file import read_keys
from channelstream.config.secret_file import pusher_secrets_of, secrets_of
from channelstream.config.settings import Settings
from channelstream.config.sources import SECTION
from channelstream.core.addresses import Networks
from channelstream.core.nonces import Nonces
from channelstream.core.signing import SignatureChecker, SignedText


def make_apps(settings: Settings) -> Apps:
    """Return the applications of a server: the default one has the options outside of any section."""
    return Apps(*(_app(app_id, own) for app_id, own in settings_by_app(settings).items()))


def _app(app_id: str, settings: Settings) -> App:
    limits = AppLimits(
        messages=settings.max_messages,
        info_users=settings.info_users_max,
        messages_per_s=settings.max_message_rate,
        connections=settings.max_app_connections,
        channels=settings.max_app_channels,
        token_age_s=settings.token_max_age_s + settings.signature_max_ahead_s,
        connection_commands_per_s=settings.max_connection_command_rate,
        connection_bytes_per_s=settings.max_connection_byte_rate,
        user_commands_per_s=settings.max_user_command_rate,
        user_messages_per_s=settings.max_user_message_rate,
        key_calls_per_s=settings.max_key_call_rate,
        key_messages_per_s=settings.max_key_message_rate,
    )
    return App(app_id, limits, _pusher(settings))


def _pusher(settings: Settings) -> PusherApp | None:
    """Return what an application has for Pusher's protocol; None if that is off."""
    if not (settings.pusher_app_id and settings.pusher_key):
        return None
    if not (settings.pusher_secret or settings.pusher_secret_file):
        return None
    return PusherApp(
        settings.pusher_app_id,
        settings.pusher_key,
        PusherSecrets(*filter(None, [settings.pusher_secret])),
        settings.pusher_client_events,
        settings.pusher_client_event_rate,
        settings.pusher_activity_timeout_s,
        settings.pusher_channel_prefix,
        settings.pusher_path_prefix,
    )


def sections(settings: Settings) -> Iterator[tuple[str, Settings]]:
    """Yield the settings of each application, and before them the section that they are in."""
    for app_id, own in settings_by_app(settings).items():
        yield f"[{SECTION}]" if own is settings else f"[{SECTION_PREFIX}{app_id}]", own


def settings_by_app(settings: Settings) -> dict[str, Settings]:
    """Return the settings of each application, by its id; those of the default one first."""
    ids = (DEFAULT, *(section.id for section in settings.apps))
    return dict(zip(ids, settings.of_each_app, strict=True))


@dataclass(frozen=True, slots=True)
class Credentials:
    """What proves that a caller is the server of an application.

    Attributes:
        keys: those of all applications.
        access: the rules of each application, by its id.
        reload: reads their files again, with those of Pusher's secrets; raises ConfigError, and leaves all as it is, if one
            cannot be used.
    """

    keys: KeyRing
    access: Mapping[str, AppAccess]
    reload: Callable[[], None]


def make_credentials(settings: Settings, apps: Apps) -> Credentials:
    """Return the keys of all applications, and the rules for their callers.

    Raises:
        ConfigError: `keys_file`, a `secret_file` or a `pusher_secret_file` cannot be used.
    """
    own = settings_by_app(settings)
    keys = KeyRing()

    def load() -> None:
        secrets = [_own_key(app, own[app.id]) for app in apps]
        of_pusher = [(app.pusher, pusher_secrets_of(own[app.id])) for app in apps if app.pusher]
        keys.replace([*secrets, *(read_keys(settings.keys_file, apps) if settings.keys_file else ())])
        for pusher, accepted in of_pusher:
            pusher.secrets.replace(accepted)

    load()
    return Credentials(keys, {app_id: _access(each) for app_id, each in own.items()}, load)


def _own_key(app: App, settings: Settings) -> ApiKey:
    newest, *older = secrets_of(settings)
    return ApiKey("", newest, app, older=tuple(older))


def _access(settings: Settings) -> AppAccess:
    nonces = Nonces(settings.signature_max_age_s, settings.signature_max_ahead_s)
    return AppAccess(RequestSigning(settings.request_signing), Networks(settings.allow_posting_from), nonces)


def make_auth(
    settings: Settings,
    app: App,
    credentials: Credentials,
    wall: Callable[[], float],
    on_older: OnOlder,
    *,
    serves_any: bool,
) -> SchemeAuth:
    """Return the authentication of the calls below the paths of an application.

    Args:
        settings: those of the application.
        credentials: those of all applications.
        wall: returns epoch seconds.
        on_older: called for each call with an older secret.
        serves_any: the calls are those of every application whose key they name. An old signature names none.

    Raises:
        ConfigError: the class of `signature_checker` cannot be used.
    """
    access = credentials.access
    keys = KeyFinder(credentials.keys, access, wall, None if serves_any else app, on_older)
    rules = SignatureRules(settings.raw_secret_in_query, access[app.id].allowed)
    secrets = partial(credentials.keys.own_secrets, app.id)
    old = SignatureAuth(app, rules, secrets, partial(_checker, settings), wall, on_older)
    return SchemeAuth(access[app.id].signing, HmacAuth(keys), BearerAuth(keys), old)


def _checker(settings: Settings, secret: str) -> Checker:
    max_age_s = settings.signature_max_age_s if settings.validate_requests else None
    if settings.signature_checker:
        return ForeignChecker(settings.signature_checker, secret, max_age_s)
    return SignatureChecker(
        secret, SignedText(settings.signature_text), max_age_s, settings.signature_max_ahead_s
    )
