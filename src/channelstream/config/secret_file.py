"""The files with the secrets of an application (`secret_file`, `pusher_secret_file`): their form, and how they are read.

A running server reads it again on SIGHUP, so that a secret rotates without a stop: callers with signatures of the older
generations, which name no key, change from one secret to the next while both are accepted.
"""

from typing import Final

from channelstream.config.private_file import read_private
from channelstream.config.settings import BY_NAME, Settings
from channelstream.errors import ConfigError

FILES: Final = ("secret_file", "pusher_secret_file")
"""The options that name such files."""
MAX_BYTES: Final = 16_384
MAX_SECRETS: Final = 3
"""The newest one, and those before it. An old signature that none of them has made costs a comparison with each."""


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """Return the secrets of an application, the newest one first: those of its file, or else the option `secret`.

    Raises:
        ConfigError: the file cannot be used. The text has no secret.
    """
    if settings.secret_file:
        return read_secrets(settings.secret_file, "secret_file")
    return (settings.secret,)


def pusher_secrets_of(settings: Settings) -> tuple[str, ...]:
    """Return the secrets of an application for Pusher's protocol, as `secrets_of` does; none if it has none.

    Raises:
        ConfigError: the file cannot be used. The text has no secret.
    """
    if settings.pusher_secret_file:
        return read_secrets(settings.pusher_secret_file, "pusher_secret_file")
    return (settings.pusher_secret,) if settings.pusher_secret else ()


def secrets_in_files(settings: Settings) -> tuple[str, ...]:
    """Return the secrets in the files of all applications.

    Raises:
        ConfigError: a file cannot be used.
    """
    return tuple(
        secret
        for own in settings.of_each_app
        for option in FILES
        if (path := getattr(own, option))
        for secret in read_secrets(path, option)
    )


def read_secrets(path: str, option: str) -> tuple[str, ...]:
    """Return the secrets in a file, one in each line; empty lines are none.

    Args:
        option: names it.

    Raises:
        ConfigError: it cannot be read, every user may read or change it, or it has another form. The text has no secret.
    """
    text = read_private(option, path, MAX_BYTES)
    try:
        secrets = tuple(dict.fromkeys(filter(None, text.decode().splitlines())))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{option}: {path!r} is not UTF-8 text") from error
    if not 0 < len(secrets) <= MAX_SECRETS:
        raise ConfigError(
            f"{option}: {path!r} has {len(secrets)} secrets; it may have 1 to {MAX_SECRETS}, one in each line"
        )
    for secret in secrets:
        _check(secret, path, option)
    return secrets


def _check(secret: str, path: str, option: str) -> None:
    kind = BY_NAME["secret"].declared.kind
    try:
        kind.parse(secret)
    except ValueError:
        raise ConfigError(f"{option}: a line of {path!r} is not {kind.allowed}") from None
