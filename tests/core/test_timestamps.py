"""Times: one form out, many forms in."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.core.timestamps import MAX_TEXT, normalize, stamp

MINUTES = st.integers(-23 * 60 - 59, 23 * 60 + 59)
MOMENTS = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31))


@pytest.mark.parametrize(
    ("epoch_s", "text"),
    [
        (0, "1970-01-01T00:00:00.000000"),
        (1316086578.471862, "2011-09-15T11:36:18.471862"),
        (1700000000, "2023-11-14T22:13:20.000000"),
    ],
)
def test_a_stamp_is_naive_utc_with_six_digits(epoch_s: float, text: str) -> None:
    """A clock reading is written in UTC, without a zone, always with six fraction digits."""
    assert stamp(epoch_s) == text


@pytest.mark.parametrize("epoch_s", [1e15, -1e15, float("nan"), float("inf")])
def test_a_stamp_refuses_readings_outside_the_calendar(epoch_s: float) -> None:
    """A reading that no year from 1 to 9999 holds is refused, never written wrongly."""
    with pytest.raises((ValueError, OverflowError)):
        stamp(epoch_s)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("2011-09-15T11:36:18.471862", "2011-09-15T11:36:18.471862"),
        ("2011-09-15T11:36:18", "2011-09-15T11:36:18.000000"),
        ("2011-09-15 11:36:18.5", "2011-09-15T11:36:18.500000"),
        ("2011-09-15T11:36:18.471", "2011-09-15T11:36:18.471000"),
        ("2011-09-15T11:36:18.471862999", "2011-09-15T11:36:18.471862"),
        ("2011-09-15T11:36:18.471Z", "2011-09-15T11:36:18.471000"),
        ("2011-09-15T11:36:18+05:30", "2011-09-15T06:06:18.000000"),
        ("2011-09-15T11:36:18-0300", "2011-09-15T14:36:18.000000"),
        ("2011-09-15T11:36", "2011-09-15T11:36:00.000000"),
        ("2011-09-15 11:36Z", "2011-09-15T11:36:00.000000"),
        ("2011-09-15T11:36+02", "2011-09-15T09:36:00.000000"),
        ("2011-09-15T11:36:18+00", "2011-09-15T11:36:18.000000"),
        ("2011-09-15T11:36:18.5+0000", "2011-09-15T11:36:18.500000"),
        ("2011-09-15T11:36:18.471862123+05:30", "2011-09-15T06:06:18.471862"),
    ],
)
def test_every_accepted_form_becomes_one(text: str, normal: str) -> None:
    """Fractions of one to nine digits, a space for the T and any zone end as the one form of the wire."""
    assert normalize(text) == normal


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2011-09-15",
        "20110915T113618",
        "2011-W37-4T11:36:18",
        "2011-13-15T11:36:18",
        "2011-02-30T11:36:18",
        "2011-09-15T24:00:01",
        "2011-09-15T11:36:60",
        "2011-09-15T11:36:18.",
        "2011-09-15T11:36:18,5",
        "2011-09-15T11:36:18.1234567890",
        "2011-09-15T11:36:18z",
        "2011-09-15T11:36:18+24:00",
        "2011-09-15T11:36:18+05:60",
        "2011-09-15T11:36:18+5",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "2011-09-15T11:36:18 ",
        "2011-09-15T11:36:18\n",
        "２011-09-15T11:36:18",
        "2011-09-15T11:36:18.471862123+05:30" + "0" * 1_000_000,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """Another text, or a time outside the calendar in UTC, is a ValueError."""
    with pytest.raises(ValueError):
        normalize(text)


@given(st.floats(-6e10, 2.5e11))
def test_a_stamped_time_is_normalized(epoch_s: float) -> None:
    """Normalizing a stamp changes nothing."""
    assert normalize(stamp(epoch_s)) == stamp(epoch_s)


@given(MOMENTS, MINUTES)
def test_a_zone_never_moves_the_moment(moment: datetime, offset_minutes: int) -> None:
    """A moment in any zone equals the same moment in UTC."""
    local = moment.replace(tzinfo=UTC).astimezone(timezone(timedelta(minutes=offset_minutes)))
    assert normalize(local.isoformat()) == moment.isoformat(timespec="microseconds")


@pytest.mark.slow
@given(
    st.text(max_size=MAX_TEXT + 5) | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d:\d\d)?")
)
def test_any_text_is_normal_or_refused(text: str) -> None:
    """Whatever comes in, the answer is a ValueError or 26 characters that are normal already."""
    try:
        normal = normalize(text)
    except ValueError:
        return
    assert len(normal) == 26
    assert normalize(normal) == normal
