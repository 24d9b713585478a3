"""Header fields of a request, names in lower case, and lists in them (RFC 9110, 5)."""

from collections.abc import Iterable

Header = tuple[bytes, bytes]
"""A name and its value."""


def header(headers: Iterable[Header], name: bytes) -> bytes | None:
    """Return the value of the first header with this lower-case name."""
    for key, value in headers:
        if key == name:
            return value
    return None


def joined(headers: Iterable[Header], name: bytes) -> str:
    """Return all fields of this lower-case name as one list (RFC 9110, 5.3)."""
    return b",".join(value for key, value in headers if key == name).decode("latin-1")


def items(text: str) -> list[str]:
    """Return the items between commas, without empty ones (RFC 9110, 5.6.1)."""
    return [part for part in map(str.strip, text.split(",")) if part]
