"""Positions: written and read back, and nothing else taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.core.position import MAX_TEXT, Position

EPOCHS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=32)


@given(EPOCHS, st.integers(0, 10**30))
def test_a_position_survives_the_wire(epoch: str, seq: int) -> None:
    """What the server wrote it reads back as the same place."""
    position = Position(epoch, seq)
    assert Position.parse(str(position)) == position


@given(st.text(max_size=MAX_TEXT + 2))
def test_any_text_is_a_position_or_none(text: str) -> None:
    """No text a client may send raises; what is read has an epoch and a number."""
    position = Position.parse(text)
    assert position is None or (position.epoch and position.seq >= 0)


@pytest.mark.parametrize(
    "text", ["", "-", "5", "-5", "epoch-", "epoch-x", "epoch-²", "epoch-٣", "epoch-1 ", "epoch--"]
)
def test_what_is_not_a_position_is_none(text: str) -> None:
    """A missing part, or a number in anything but ASCII digits, is no position."""
    assert Position.parse(text) is None


def test_a_position_has_at_most_64_characters() -> None:
    """The longest text allowed is read, one character more is not looked at."""
    longest = "e-" + "1" * (MAX_TEXT - 2)
    assert Position.parse(longest) == Position("e", int("1" * (MAX_TEXT - 2)))
    assert Position.parse(longest + "1") is None
