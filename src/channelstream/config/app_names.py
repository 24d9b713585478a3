"""How sections of the INI file, and variables of the environment, name an application and its option."""

from channelstream.apps.app import is_app_id
from channelstream.apps.keys import DEFAULT
from channelstream.config.settings import BY_NAME, PER_APP

SECTION_PREFIX = "app:"
"""The section of the application `shop` is `[app:shop]`."""
VARIABLE_PREFIX = "app_"
"""Its option `secret` is `CHANNELSTREAM_APP_SHOP_SECRET` in the environment."""
MAX_APPS = 100
"""Most further applications: each has routes, pages and counters of its own."""

_SUFFIXES = sorted(
    (name for name, option in BY_NAME.items() if option.name in PER_APP), key=len, reverse=True
)
"""Longest first: `app_shop_admin_secret` is the `admin_secret` of `shop`, not the `secret` of `shop_admin`."""


def fault_of_id(app_id: str) -> str:
    """Return why an application cannot have this id; empty if it can."""
    if app_id == DEFAULT:
        return "the default application has the options of [channelstream]"
    if not is_app_id(app_id):
        return "the id of an application has 1 to 32 lower-case letters, digits, dashes and underscores"
    return ""


def of_section(title: str) -> str | None:
    """Return the id of the application whose section has this title; None if it is another section."""
    return title.removeprefix(SECTION_PREFIX).strip() if title.startswith(SECTION_PREFIX) else None


def of_variable(name: str) -> tuple[str, str] | None:
    """Return the application and the option that a variable names, in lower case without the common prefix; None if none."""
    if name in BY_NAME or not name.startswith(VARIABLE_PREFIX):
        return None
    rest = name.removeprefix(VARIABLE_PREFIX)
    for suffix in _SUFFIXES:
        app_id = rest.removesuffix(f"_{suffix}")
        if app_id != rest and not fault_of_id(app_id):
            return app_id, suffix
    return None
