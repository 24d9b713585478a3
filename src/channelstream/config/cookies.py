"""The key of cookies where the configuration has none."""

import secrets
from typing import Final

_DRAWN: Final = "drawn-"
"""How keys begin that no one has configured: the processes of a service pass them on, and know what they have."""


def cookie_secret_or_drawn(configured: str) -> str:
    """Return the configured key, or a new one, which ends with the service."""
    return configured or _DRAWN + secrets.token_urlsafe()


def is_drawn(cookie_secret: str) -> bool:
    """Whether sign-ins end with the service, since its key was drawn at the start."""
    return cookie_secret.startswith(_DRAWN)
