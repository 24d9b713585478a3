"""Positions: written and read back, and nothing else taken for one."""

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.core.position import (
    MAX_SHARDS,
    MAX_TEXT,
    Position,
    earlier,
    later,
    replaced,
    shard_of,
)

EPOCHS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=16)
SHARDS = st.lists(st.tuples(EPOCHS, st.integers(0, 10**9)), min_size=1, max_size=MAX_SHARDS)
NUMBERS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1).map(
    lambda pairs: zip(*pairs, strict=True)
)


@given(SHARDS)
def test_a_position_survives_the_wire(shards: list[tuple[str, int]]) -> None:
    """What the server wrote it reads back as the same place, in one shard or in the most there can be."""
    epochs, seqs = zip(*shards, strict=True)
    position = Position(epochs, seqs)
    assert Position.parse(str(position)) == position


def test_a_position_is_written_as_epochs_and_numbers() -> None:
    """With dots between those of several shards."""
    assert str(Position.single("e", 5)) == "e-5"
    assert str(Position(("e", "f"), (5, 0))) == "e.f-5.0"


@given(st.text(max_size=MAX_TEXT + 2))
def test_any_text_is_a_position_or_none(text: str) -> None:
    """No text a client may send raises; what is read has as many epochs as numbers."""
    position = Position.parse(text)
    assert position is None or len(position.epochs) == len(position.seqs) > 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "5",
        "-5",
        "epoch-",
        "epoch-x",
        "epoch-²",
        "epoch-٣",
        "epoch-1 ",
        "epoch--",
        "a.b-1",
        "a-1.2",
        ".b-1.2",
        "a.b-1.",
    ],
)
def test_what_is_not_a_position_is_none(text: str) -> None:
    """A missing part, or a number in anything but ASCII digits, is no position."""
    assert Position.parse(text) is None


def test_a_position_has_a_longest_text() -> None:
    """It is read, one character more is not looked at."""
    longest = "e-" + "1" * (MAX_TEXT - 2)
    assert Position.parse(longest) == Position.single("e", int("1" * (MAX_TEXT - 2)))
    assert Position.parse(longest + "1") is None


@given(NUMBERS)
def test_numbers_are_joined_for_each_shard(pair: Iterable[tuple[int, ...]]) -> None:
    """The later of two is behind both in every shard, the earlier before both."""
    one, other = pair
    pairs = list(zip(one, other, strict=True))
    assert later(one, other) == tuple(max(each) for each in pairs)
    assert earlier(one, other) == tuple(min(each) for each in pairs)


def test_one_number_is_replaced() -> None:
    """Those of the other shards stay."""
    assert [replaced((1, 2, 3), shard, 9) for shard in range(3)] == [(9, 2, 3), (1, 9, 3), (1, 2, 9)]


def test_names_are_spread_over_the_shards() -> None:
    """Each has its fair part, one name is always in the same, and where there is one shard it has all."""
    counts = Counter(shard_of(f"channel-{number}", 4) for number in range(4000))
    assert set(counts) == {0, 1, 2, 3}
    assert min(counts.values()) > 900
    assert (shard_of("a", 4), shard_of("\u00e9", 4), shard_of("a", 1)) == (3, 2, 0)
