"""A table with a bound."""

from hypothesis import given
from hypothesis import strategies as st

from channelstream.pages.bounded import Bounded


@given(st.lists(st.integers(0, 20)), st.integers(1, 5))
def test_holds_the_latest_written(keys: list[int], bound: int) -> None:
    """It keeps the keys written last, as many as the bound says."""
    table: Bounded[int, int] = Bounded(bound)
    for at, key in enumerate(keys):
        table[key] = at
    latest = list(dict.fromkeys(reversed(keys)))[:bound]
    assert list(table) == latest[::-1]
    assert all(keys[at] == key for key, at in table.items())
