"""Another class for the check of signatures, which an application names (option `signature_checker`)."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from channelstream.errors import BadSignature, ConfigError


class ForeignChecker:
    """Checks with the method `unsign` of the class, as 0.7.1 did (`auth.signature.Checker`)."""

    def __init__(self, name: str, secret: str, max_age_s: float | None) -> None:
        """Import the class, and make an object of it with the secret.

        Raises:
            ConfigError: it cannot be imported or made, or has no `unsign`.
        """
        self._unsign = _unsign_of(name, secret)
        self._max_age_s = max_age_s

    def check(self, token: str, path: str, now_s: float) -> None:
        try:
            self._unsign(token, max_age=self._max_age_s)
        except Exception as error:
            # Foreign code: any exception counts as a refusal.
            raise BadSignature from error


def _unsign_of(name: str, secret: str) -> Callable[..., Any]:
    module, _, attribute = name.rpartition(".")
    try:
        unsign: Callable[..., Any] = getattr(import_module(module), attribute)(secret).unsign
    except Exception as error:
        # Foreign code.
        raise ConfigError(f"signature_checker: cannot use {name!r}: {error}") from error
    return unsign
