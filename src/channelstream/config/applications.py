"""The applications that the options describe, and how their calls are authenticated."""

from collections.abc import Callable

from channelstream.apps.app import App, AppLimits, Apps
from channelstream.apps.keys import DEFAULT
from channelstream.auth.foreign import ForeignChecker
from channelstream.auth.signature import Checker, SignatureAuth, SignatureRules
from channelstream.config.settings import Settings
from channelstream.core.addresses import Networks
from channelstream.core.signing import SignatureChecker, SignedText


def make_apps(settings: Settings) -> Apps:
    """Return the applications of a server: the default one has the options outside of any section."""
    further = (_app(app_id, own) for app_id, own in settings_of_further(settings).items())
    return Apps(_app(DEFAULT, settings), *further)


def _app(app_id: str, settings: Settings) -> App:
    return App(app_id, AppLimits(settings.max_messages, settings.info_users_max))


def settings_of_further(settings: Settings) -> dict[str, Settings]:
    """Return the settings of each further application, by its id."""
    return {section.id: settings.of_app(section) for section in settings.apps}


def make_signature_auth(settings: Settings, app: App, wall: Callable[[], float]) -> SignatureAuth:
    """Return the authentication of an application's signed calls.

    Args:
        settings: those of the application.
        wall: returns epoch seconds.

    Raises:
        ConfigError: the class of `signature_checker` cannot be used.
    """
    rules = SignatureRules(
        settings.secret, settings.raw_secret_in_query, Networks(settings.allow_posting_from)
    )
    return SignatureAuth(app, rules, _checker(settings), wall)


def _checker(settings: Settings) -> Checker:
    max_age_s = settings.signature_max_age_s if settings.validate_requests else None
    if settings.signature_checker:
        return ForeignChecker(settings.signature_checker, settings.secret, max_age_s)
    return SignatureChecker(
        settings.secret, SignedText(settings.signature_text), max_age_s, settings.signature_max_ahead_s
    )
