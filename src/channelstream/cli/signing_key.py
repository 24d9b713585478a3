"""What a command signs its calls with: the secret of an application, or a key of the file `keys_file`.

The secret of a key is in the file, or in a variable of the environment. No flag has it: every user of the machine can read
the command line of a process.
"""

from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from msgspec import UNSET

from channelstream.apps.keys import DEFAULT
from channelstream.call_signing import CallSigner
from channelstream.config import Settings
from channelstream.config.app_names import fault_of_id
from channelstream.config.keys_file import read_stored
from channelstream.config.secret_file import secrets_of
from channelstream.config.settings import BY_NAME
from channelstream.config.sources import KEY_VARIABLE
from channelstream.errors import ConfigError

SIGNING_OPTIONS = ("secret", "secret_file", "keys_file")
"""The options whose flags a command takes besides those of `add_key_flags`."""
_OF_APP = ("secret", "secret_file")
"""The options that give the secret of the application which is called."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """What signs calls.

    Attributes:
        id: of a key; empty for the secret of an application.
        app_id: the application that is called.
        is_old: whether calls are signed in the old form.
    """

    id: str
    secret: str = field(repr=False)
    app_id: str = DEFAULT
    is_old: bool = False

    def signer(self, *, is_old: bool = False) -> CallSigner:
        """Return what signs calls; in the old form if that is asked for, or if the server takes no other."""
        return CallSigner(lambda: self.secret, is_old or self.is_old, self.id)


def add_key_flags(add: Callable[..., Any]) -> None:
    """Add the flags that name a key, and an application."""
    add(
        "--app",
        metavar="ID",
        help="Call this application of the server, whose section [app:ID] has its secret.",
    )
    add(
        "--key",
        metavar="ID",
        help=f"Sign with this key of the file of keys; its secret may be in {KEY_VARIABLE} instead.",
    )


def signing_key(settings: Settings, arguments: Namespace, environ: Mapping[str, str]) -> SigningKey:
    """Return what signs calls, by the flags of `add_key_flags` and the settings.

    Raises:
        ConfigError: there is no such key or application, or a file cannot be used.
    """
    own = _of_app(settings, arguments) if "app" in arguments else settings
    if "key" in arguments:
        return _named(own, arguments, environ)
    secret = own.secret if "secret" in arguments else secrets_of(own)[0]
    return SigningKey("", secret, getattr(arguments, "app", DEFAULT), signs_old(own))


def signs_old(settings: Settings) -> bool:
    """Whether a server with these settings wants old signatures."""
    return settings.request_signing == "old"


def _of_app(settings: Settings, arguments: Namespace) -> Settings:
    """Return the settings of the application that `--app` names; a secret of the command line goes before its section's.

    Raises:
        ConfigError: neither has one, and no key is named.
    """
    app_id = arguments.app
    if fault := fault_of_id(app_id):
        raise ConfigError(f"--app: {fault}")
    section = next((each for each in settings.apps if each.id == app_id), None)
    if section is None and not {*_OF_APP, "key"} & vars(arguments).keys():
        raise ConfigError(
            f"--app: there is no section [app:{app_id}]; name its file with -i, or its secret with -s or --secret-file"
        )
    own = settings if section is None else settings.of_app(section)
    return replace(own, **{name: getattr(settings, name) for name in _OF_APP if name in arguments})


def _named(own: Settings, arguments: Namespace, environ: Mapping[str, str]) -> SigningKey:
    """Return the key that `--key` names.

    Raises:
        ConfigError: it is not known, or does not fit the other flags.
    """
    key_id, app_id = arguments.key, getattr(arguments, "app", None)
    if given := [name for name in _OF_APP if name in arguments]:
        raise ConfigError(
            f"--key: {BY_NAME[given[0]].flag} has the secret of the application; give one of them"
        )
    if signs_old(own):
        raise ConfigError("--key: request_signing is old, and an old signature names no key")
    if secret := environ.get(KEY_VARIABLE):
        return SigningKey(key_id, secret, app_id or DEFAULT)
    if not own.keys_file:
        raise ConfigError(
            f"--key: name the file of keys with --keys-file, or set {KEY_VARIABLE} to the secret of the key"
        )
    stored = next((each for each in read_stored(own.keys_file) if each.id == key_id), None)
    if stored is None or stored.revoked is not UNSET:
        raise ConfigError(f"--key: {own.keys_file!r} has no key {key_id!r} that is not revoked")
    if app_id not in (None, stored.app):
        raise ConfigError(f"--key: {key_id!r} is a key of the application {stored.app!r}, not of {app_id!r}")
    return SigningKey(key_id, stored.secret, stored.app)
