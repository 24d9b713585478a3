"""Kinds of values of the options of webhooks."""

import re
from base64 import b64decode
from dataclasses import dataclass
from urllib.parse import urlsplit

from channelstream.apps.webhooks import TYPES
from channelstream.config.values import split_list

MOST_URLS = 10
"""Most URLs of one format in an application: each is sent all of its facts."""
URL_BYTES = 2048
"""Longest URL."""
PREFIX = "whsec_"
"""Begins the text of a secret (Standard Webhooks, 1.0.0)."""
MOST_SECRETS = 3
"""Most secrets at a time: the present one, and those before it."""
_KEY_BYTES = range(24, 65)
"""How long a secret may be (Standard Webhooks, 1.0.0)."""
_URL = re.compile(r"[\x21-\x7e]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Urls:
    """URLs that are posted to: without a user, whose password would be in logs, and without a fragment."""

    allowed = f"a list of up to {MOST_URLS} different http:// or https:// URLs without a user and a fragment"
    metavar = "LIST"

    def parse(self, text: str) -> tuple[str, ...]:
        found = tuple(split_list(text))
        if len(found) > MOST_URLS or len(set(found)) < len(found) or not all(map(_is_url, found)):
            raise ValueError(text)
        return found


def _is_url(text: str) -> bool:
    if len(text) > URL_BYTES or _URL.fullmatch(text) is None or "#" in text:
        return False
    parts = urlsplit(text)
    # Reading the port raises ValueError for one that is none.
    return (
        parts.scheme in ("http", "https")
        and bool(parts.hostname)
        and "@" not in parts.netloc
        and parts.port != 0
    )


@dataclass(frozen=True, slots=True)
class WebhookSecrets:
    """Secrets of Standard Webhooks on one line."""

    allowed = (
        f"up to {MOST_SECRETS} secrets with blanks between them, each {PREFIX} and the base64 of"
        f" {_KEY_BYTES[0]} to {_KEY_BYTES[-1]} bytes"
    )
    metavar = "LIST"

    def parse(self, text: str) -> str:
        found = list(split_list(text))
        if len(found) > MOST_SECRETS:
            raise ValueError(text)
        keys_of(text)
        return " ".join(found)


def keys_of(text: str) -> tuple[bytes, ...]:
    """Return the keys of secrets.

    Raises:
        ValueError: one is faulty.
    """
    keys = tuple(_key(each) for each in split_list(text))
    if not all(len(key) in _KEY_BYTES for key in keys):
        raise ValueError(text)
    return keys


def _key(text: str) -> bytes:
    if not text.startswith(PREFIX):
        raise ValueError(text)
    return b64decode(text.removeprefix(PREFIX), validate=True)


@dataclass(frozen=True, slots=True)
class EventTypes:
    """Types of what webhooks report."""

    allowed = f"a list of {', '.join(TYPES.values())}"
    metavar = "LIST"

    def parse(self, text: str) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(split_list(text)))
        if not set(found) <= set(TYPES.values()):
            raise ValueError(text)
        return found
