"""Times on the wire: naive UTC, ISO 8601, always six fraction digits."""

import re
from datetime import UTC, datetime
from functools import lru_cache

MAX_TEXT = 35
"""Length of the longest valid text, `2011-09-15T11:36:18.471862123+05:30`; longer ones are refused unread."""

PATTERN = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d(:?\d\d)?)?$"
"""The form, for documents; not every text of this form is a time."""

_ISO = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(?P<zone>Z|[+-]([01]\d|2[0-3])(:?[0-5]\d)?)?", re.ASCII
)


def stamp(epoch_s: float) -> str:
    """Return a clock reading in the form of the wire, `2011-09-15T11:36:18.471862`.

    Args:
        epoch_s: seconds since 1970-01-01 UTC.

    Raises:
        ValueError, OverflowError: the reading is outside the years 1 to 9999.
    """
    micros = int(epoch_s * 1_000_000)
    second = micros // 1_000_000
    # The seven digits of a number below two million, without the first one, are six digits; `:06d` takes longer.
    return f"{_second(second)}.{str(1_000_000 + micros - second * 1_000_000)[1:]}"


def normalize(text: str) -> str:
    """Return an ISO 8601 date and time in the form of `stamp`.

    Seconds may be absent, their fraction may have one to nine digits (what is finer than a microsecond is cut off),
    and the zone may be absent, `Z`, `+hh:mm`, `+hhmm` or `+hh`; without a zone the time is taken for UTC.

    Raises:
        ValueError: the text is not such a time, or its year in UTC is outside 1 to 9999.
    """
    found = _ISO.fullmatch(text) if len(text) <= MAX_TEXT else None
    if found is None:
        raise ValueError("not an ISO 8601 date and time")
    moment = datetime.fromisoformat(text)
    if found["zone"] is None:
        return _write(moment)
    try:
        return _write(moment.astimezone(UTC))
    except OverflowError as error:
        raise ValueError("the year is out of range") from error


@lru_cache(maxsize=4)
def _second(second: int) -> str:
    """Return the text of a whole second; cached, since all messages of that second share it."""
    return datetime.fromtimestamp(second, UTC).replace(tzinfo=None).isoformat()


def _write(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds")
