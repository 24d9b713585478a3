"""The header `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date."""

from datetime import UTC
from email.utils import parsedate_to_datetime

LONGEST_S = 366 * 86_400.0
"""Upper bound of the result. Callers apply their own, far lower bounds."""


def seconds_to_wait(header: str, now: float) -> float | None:
    """Return the wait that the server asks for, in seconds; None if the header is absent or unreadable.

    Args:
        header: the text of the header; empty means absent.
        now: seconds since the epoch.
    """
    if header.isascii() and header.isdigit():
        return min(float(header), LONGEST_S)
    try:
        date = parsedate_to_datetime(header)
        wait_s = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(wait_s, 0.0), LONGEST_S)
