"""The numbers in JSON of others."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.core.numbers import finite, has_many_exponents


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_what_msgspec_reads(number: float) -> None:
    """To the last bit, in the forms in which it can be written."""
    for digits in (repr(number), f"{number:.25e}", f"{number:E}"):
        assert msgspec.json.decode(digits, type=float).hex() == finite(digits).hex()


@pytest.mark.parametrize("digits", ["1e309", "-1e400", "1.8e308"])
def test_a_number_out_of_range_is_refused(digits: str) -> None:
    """As msgspec refuses it, since JSON has no infinity."""
    for hook in (None, finite):
        with pytest.raises(msgspec.ValidationError, match=r"^Number out of range - at `\$\[0\]`$"):
            msgspec.json.Decoder(float_hook=hook).decode(f"[{digits}]")


@pytest.mark.parametrize(
    ("item", "has_many"),
    [
        ("1e300", True),
        ("1E+300", True),
        ("1e0300", True),
        ("1e99", False),
        ('"\\\\",1e300', True),
        ('"\\"",1e300', True),
        ('"1e300"', False),
        ("0.5", False),
        ("true,false,null", False),
    ],
)
def test_many_large_numbers_are_noticed(item: str, has_many: bool) -> None:
    """Outside of texts."""
    assert has_many_exponents(f"[{','.join([item] * 1000)}]".encode()) is has_many


def test_a_few_large_numbers_are_none_too_many() -> None:
    """Nor are all that a short text has."""
    few = [1e300] * 100
    assert not has_many_exponents(msgspec.json.encode([*few, *range(2000)]))
    assert not has_many_exponents(msgspec.json.encode([1e300] * 680))
