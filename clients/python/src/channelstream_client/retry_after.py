"""The header `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date."""

from datetime import UTC
from email.utils import parsedate_to_datetime

LONGEST_S = 366 * 86_400.0
"""What a longer one is taken for; whoever waits has a bound of its own, far below this."""


def seconds_to_wait(header: str, now: float) -> float | None:
    """Seconds until the server wants to be asked again; None where the header says nothing.

    Args:
        header: its text; empty means there was none.
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
