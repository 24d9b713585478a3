"""Normal forms of ids, which clients spell in several ways."""

import re

MAX_CONN_ID = 128

_NORMAL_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UUID = re.compile(r"([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})")


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
        ValueError: the text is not 1 to 128 visible characters.
    """
    if not 1 <= len(text) <= MAX_CONN_ID or " " in text or not text.isprintable():
        raise ValueError("not a conn_id")
    try:
        return normalize_uuid(text)
    except ValueError:
        return text
