"""The values of secrets, and which of them everybody knows."""

from channelstream.config.secret_file import pusher_secrets_of, secrets_of
from channelstream.config.settings import Settings
from channelstream.errors import ConfigError

PUBLIC_SECRETS = frozenset({"", "secret", "admin_secret", "YOURSECRET", "YOURADMINSECRET"})
"""Default secrets of both generations, and those of the first one's sample file: they are public."""
SECRETS = ("secret", "admin_secret", "admin_reader_secret")
"""Options that give access to who knows their value."""
PUBLIC_OF_PUSHER = PUBLIC_SECRETS - {""} | {"app-secret", "kit-secret", "a-long-random-secret"}
"""Those of other servers', of our samples and of docs/pusher.md as well."""
_PUBLIC = {
    "secret": PUBLIC_SECRETS,
    "admin_secret": PUBLIC_SECRETS - {""},
    "admin_reader_secret": PUBLIC_SECRETS - {""},
    "pusher_secret": PUBLIC_OF_PUSHER,
}
IN_FILES = {"secret": secrets_of, "pusher_secret": pusher_secrets_of}
"""Options whose values a file may have, and what reads these, with the file or without."""


def public(name: str) -> frozenset[str]:
    """Return the values of a secret that everybody knows, with which there is access: an empty password admits nobody."""
    return _PUBLIC.get(name, frozenset())


def values_of(settings: Settings, name: str) -> tuple[str, ...]:
    """Return the values of a secret: all that are accepted of one of `IN_FILES`.

    Raises:
        ConfigError: the file with these cannot be used.
    """
    read = IN_FILES.get(name)
    return read(settings) if read else (getattr(settings, name),)


def readable_values(settings: Settings, name: str) -> tuple[str, ...]:
    """Return the values of a secret, of which `secret` may have several; none if `safety` refuses their file."""
    try:
        return values_of(settings, name)
    except ConfigError:
        return ()
