"""Lists of names: a text is one name, not a list of its letters."""

from collections.abc import Iterable

NO_LISTS = (str, bytes, bytearray, memoryview)
"""What can be iterated, or is a sequence, but is no list."""
LISTS = frozenset({"pm_users", "exclude_users", "channels", "exclude_channels"})
"""Fields of messages and requests that are lists of names."""


def listed(what: str, names: Iterable[str]) -> list[str]:
    """The names as a list; see `refuse_text`."""
    refuse_text(what, names)
    return list(names)


def refuse_text(what: str, names: object) -> None:
    """Refuse one text where a list of names is meant: iterating it would give its letters.

    Args:
        what: the argument, for the error.

    Raises:
        TypeError: it is a text.
    """
    if isinstance(names, NO_LISTS):
        raise TypeError(f"{what} must be a list of names, not {type(names).__name__}: write [{names!r:.80}]")


def check_lists(value: object) -> None:
    """Refuse a dataclass of whose lists of names one is a text; see `refuse_text`."""
    for name in LISTS:
        refuse_text(name, getattr(value, name, None))
