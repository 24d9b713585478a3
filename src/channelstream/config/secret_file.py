"""The file with the secrets of an application (option `secret_file`): its form, and how it is read.

A running server reads it again on SIGHUP, so that a secret rotates without a stop: callers with signatures of the older
generations, which name no key, change from one secret to the next while both are accepted.
"""

from typing import Final

from channelstream.config.private_file import read_private
from channelstream.config.settings import BY_NAME, Settings
from channelstream.errors import ConfigError

MAX_BYTES: Final = 16_384
MAX_SECRETS: Final = 3
"""The newest one, and those before it. An old signature that none of them has made costs a comparison with each."""


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """Return the secrets of an application, the newest one first: those of its file, or else the option `secret`.

    Raises:
        ConfigError: the file cannot be used. The text has no secret.
    """
    return read_secrets(settings.secret_file) if settings.secret_file else (settings.secret,)


def secrets_in_files(settings: Settings) -> tuple[str, ...]:
    """Return the secrets in the files of all applications.

    Raises:
        ConfigError: a file cannot be used.
    """
    every = (settings, *map(settings.of_app, settings.apps))
    return tuple(secret for own in every if own.secret_file for secret in read_secrets(own.secret_file))


def read_secrets(path: str) -> tuple[str, ...]:
    """Return the secrets in a file, one in each line; empty lines are none.

    Raises:
        ConfigError: it cannot be read, every user may read or change it, or it has another form. The text has no secret.
    """
    text = read_private("secret_file", path, MAX_BYTES)
    try:
        secrets = tuple(dict.fromkeys(filter(None, text.decode().splitlines())))
    except UnicodeDecodeError as error:
        raise ConfigError(f"secret_file: {path!r} is not UTF-8 text") from error
    if not 0 < len(secrets) <= MAX_SECRETS:
        raise ConfigError(
            f"secret_file: {path!r} has {len(secrets)} secrets; it may have 1 to {MAX_SECRETS}, one in each line"
        )
    for secret in secrets:
        _check(secret, path)
    return secrets


def _check(secret: str, path: str) -> None:
    kind = BY_NAME["secret"].declared.kind
    try:
        kind.parse(secret)
    except ValueError:
        raise ConfigError(f"secret_file: a line of {path!r} is not {kind.allowed}") from None
