"""What the streams of a server say, without I/O: lists of items, and why a stream ended (docs/resume.md)."""

import json
import re
from typing import Any, TypeGuard

from channelstream_client.retry_after import seconds_to_wait

NORMAL = 1000
GOING_AWAY = 1001
LOST = 1006
"""The stream broke without a close frame (RFC 6455 section 7.1.5)."""
TOO_BIG = 1009
RESTARTING = 1012
OVERLOADED = 1013
UNKNOWN_CONNECTION = 4001
REPLACED = 4002
TOKEN_EXPIRED = 4003
SLOW = 4008

MAX_LIST_BYTES = 64 << 20
"""Longest list of items. A longer one ends listening, because a replay would send it again."""

NO_JSON = (ValueError, RecursionError)
"""What reading JSON raises: the second if lists are nested too deep."""

Item = dict[str, Any]
_CODES = {401: UNKNOWN_CONNECTION, 409: REPLACED, 429: OVERLOADED, 503: OVERLOADED}
"""Close codes of HTTP statuses."""
_ID = re.compile(r"conn_id=[^&\s'\"]*")


class StreamEnded(Exception):
    """A stream has ended.

    Attributes:
        code: the close code.
        retry_after_s: the wait that the server asks for, in seconds.
        status: HTTP status of a refusal without close code, perhaps from a proxy. None: the stream was open, there was no
            answer, or the answer has a close code.
    """

    def __init__(self, code: int, reason: str, retry_after_s: float = 0.0, status: int | None = None) -> None:
        super().__init__(code, reason, retry_after_s, status)
        self.code = code
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.status = status

    def __str__(self) -> str:
        return f"{self.reason} ({self.code})" if self.reason else f"closed ({self.code})"


class RenewalFailed(StreamEnded):
    """The application returned no new connection. The transport did not fail."""

    def __init__(self, reason: str) -> None:
        super().__init__(LOST, reason)
        self.args = (reason,)


def refused(status: int, retry_after: str, body: bytes, at: float) -> StreamEnded:
    """Return why a stream was refused: by the close code in the body, or else by the status, which may be a proxy's.

    Args:
        retry_after: the header Retry-After; empty means absent.
        at: time of the answer, in seconds since the epoch.
    """
    wait_s = seconds_to_wait(retry_after, at) or 0.0
    try:
        said = json.loads(body)
    except NO_JSON:
        said = None
    if isinstance(said, dict) and isinstance(said.get("close_code"), int):
        return StreamEnded(said["close_code"], str(said.get("error", "")), wait_s)
    return StreamEnded(_CODES.get(status, LOST), f"answered {status}", wait_s, status)


def too_long() -> StreamEnded:
    return StreamEnded(TOO_BIG, f"a list of items is longer than {MAX_LIST_BYTES} bytes")


def items_of(text: str | bytes) -> list[Item]:
    """Return the items of one JSON list.

    Raises:
        StreamEnded: the text is not a list of JSON objects, so it does not come from channelstream.
    """
    try:
        items = json.loads(text)
    except NO_JSON:
        items = None
    if not are_items(items):
        raise StreamEnded(LOST, "not a list of items")
    return items


def are_items(value: Any) -> TypeGuard[list[Item]]:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def is_closing(item: Item) -> bool:
    return item.get("type") == "closing"


def closing_of(items: list[Item]) -> StreamEnded | None:
    """Return the end of the stream from a `closing` item, which SSE and long poll send last; None without one."""
    for item in filter(is_closing, items):
        code = item.get("code")
        return StreamEnded(code if isinstance(code, int) else LOST, str(item.get("reason", "")))
    return None


def position_of(item: Item) -> str:
    """Return the position of an item; empty if it has none."""
    position = item.get("position")
    return position if isinstance(position, str) else ""


def without_id(text: str) -> str:
    """Return a text with the connection ids in its addresses masked."""
    return _ID.sub("conn_id=...", text)
