"""Ids: the normal forms of those that clients spell in several ways, and the form of trace contexts."""

import re

MAX_CONN_ID = 128
"""Longest conn_id, in characters."""

_NORMAL_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UUID = re.compile(r"([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})")
_JOINED = re.compile(r"(?<=[^\x00-\x7f\u200c\u200d])[\u200c\u200d]")
"""A joiner after a character that may need one: Persian, Indic scripts and emoji are written with them (UAX 31, 2.3)."""
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def normalize_uuid(text: str) -> str:
    """Write any spelling of a UUID (dashed, bare, braced, `urn:uuid:`) lower-case and dashed.

    Raises:
        ValueError: the text is not a UUID.
    """
    if _NORMAL_UUID.fullmatch(text) is not None:
        return text
    bare = text.lower().removeprefix("urn:uuid:")
    if bare.startswith("{") and bare.endswith("}"):
        bare = bare[1:-1]
    found = _UUID.fullmatch(bare)
    if found is None:
        raise ValueError("not a UUID")
    return "-".join(found.groups())


def normalize_conn_id(text: str) -> str:
    """Return the normal form of a conn_id: a UUID lower-case and dashed, any other text unchanged.

    Raises:
        ValueError: the text is not 1 to 128 visible characters, and joiners between them.
    """
    if _NORMAL_UUID.fullmatch(text) is not None:
        return text
    if not 1 <= len(text) <= MAX_CONN_ID or " " in text or not _is_visible(text):
        raise ValueError("not a conn_id")
    try:
        return normalize_uuid(text)
    except ValueError:
        return text


def _is_visible(text: str) -> bool:
    return text.isprintable() or _JOINED.sub("", text).isprintable()


def is_traceparent(text: str) -> bool:
    """Whether a text is a trace context in the form of version 00 (W3C Trace Context, 3.2)."""
    return _TRACEPARENT.fullmatch(text) is not None
