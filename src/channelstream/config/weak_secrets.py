"""Finds secrets that strangers can know or guess.

The server starts with them all the same, so that a service that moves from 0.7 keeps the secrets that its callers have. The
log names them at each start, `channelstream check-config` and `channelstream doctor` before it.
"""

from collections.abc import Iterable, Iterator

from channelstream.apps.api_key import MIN_SECRET_BYTES
from channelstream.config.applications import sections
from channelstream.config.keys_file import read_stored
from channelstream.config.secret_values import SECRETS, public, readable_values
from channelstream.config.settings import APP_SECRETS, Settings
from channelstream.errors import ConfigError

SHORTEST_SECRET = 16
"""Characters below which a key can be guessed offline, from one signature or one cookie."""
SIGNING = ("secret", "cookie_secret", "pusher_secret")
"""Options that can be guessed so: a password is tried at the server only, which delays attempts."""
SIGNING_OF_APPS = tuple(name for name in SIGNING if name in APP_SECRETS)
"""Those that each application has for itself; the key of cookies is one for all."""
MOST_NAMED = 20
"""Keys that one line of the log names."""
ADVICE = "set it to what `channelstream make-config` writes"


def warnings(settings: Settings) -> Iterator[str]:
    """Yield a sentence about each secret that is weak, and what to do; without the secret."""
    for where, own in sections(settings):
        for name in known_secrets(own) if settings.trusted_proxies else ():
            yield (
                f"{where} {name} has a public default value, and strangers reach the server through trusted_proxies; "
                f"{ADVICE}"
            )
        for name in short_secrets(own, SIGNING if own is settings else SIGNING_OF_APPS):
            yield f"{where} {name} has fewer than {SHORTEST_SECRET} characters: one signature lets it be guessed; {ADVICE}"
    if weak := weak_keys(settings):
        named = [*weak[:MOST_NAMED], *([f"{len(weak) - MOST_NAMED} more"] if len(weak) > MOST_NAMED else [])]
        yield (
            f"keys_file: secrets with fewer than {MIN_SECRET_BYTES} bytes are refused with 401, and these keys have such "
            f"ones: {', '.join(named)}; `channelstream keys new` makes others"
        )


def weak_keys(settings: Settings) -> list[str]:
    """Return the ids of the keys in `keys_file` that are weak; none if `safety` refuses the file."""
    try:
        stored = read_stored(settings.keys_file) if settings.keys_file else []
    except ConfigError:
        return []
    return [each.id for each in stored if not each.revoked and len(each.secret.encode()) < MIN_SECRET_BYTES]


def known_secrets(settings: Settings) -> Iterator[str]:
    """Yield the options of an application whose value is public; `safety` accepts them on loopback only."""
    for name in (*SECRETS, "pusher_secret") if settings.loopback else ():
        if not public(name).isdisjoint(readable_values(settings, name)):
            yield name


def short_secrets(settings: Settings, names: Iterable[str]) -> Iterator[str]:
    """Yield those of these options that can be guessed, except for values that are public, or empty: not set."""
    for name in names:
        values = (value for value in readable_values(settings, name) if value and value not in public(name))
        if any(len(value) < SHORTEST_SECRET for value in values):
            yield name
