"""Checks lists of names: a single string is not a list of its characters."""

from collections.abc import Iterable

NO_LISTS = (str, bytes, bytearray, memoryview)
"""Types that are iterable, but are not lists of names."""
LISTS = frozenset({"pm_users", "exclude_users", "channels", "exclude_channels"})
"""Fields of messages and requests that are lists of names."""


def listed(what: str, names: Iterable[str]) -> list[str]:
    """Return the names as a list; see `refuse_text`."""
    refuse_text(what, names)
    return list(names)


def refuse_text(what: str, names: object) -> None:
    """Refuse a string in place of a list of names: iterating it would yield its characters.

    Args:
        what: name of the argument, for the error.

    Raises:
        TypeError: `names` is a string or bytes.
    """
    if isinstance(names, NO_LISTS):
        raise TypeError(f"{what} must be a list of names, not {type(names).__name__}: write [{names!r:.80}]")


def check_lists(value: object) -> None:
    """Refuse a dataclass with a string in place of a list of names; see `refuse_text`."""
    for name in LISTS:
        refuse_text(name, getattr(value, name, None))
