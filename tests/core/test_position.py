"""Positions: written and read back, and no other text is one."""

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.core.position import (
    DRAWS_PER_SHARD,
    MAX_OFFSET,
    MAX_SHARDS,
    MAX_TEXT,
    UNKNOWN_POSITION,
    Position,
    ReadRange,
    draw_in_shard,
    max_offsets,
    min_offsets,
    shard_of,
    with_offset,
)

EPOCHS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=16)
SHARDS = st.lists(st.tuples(EPOCHS, st.integers(0, 10**9)), min_size=1, max_size=MAX_SHARDS)
NUMBERS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1).map(
    lambda pairs: zip(*pairs, strict=True)
)


@given(SHARDS)
def test_a_position_survives_the_wire(shards: list[tuple[str, int]]) -> None:
    """The server reads its own text back as the same position, in one shard or in the most there can be."""
    epochs, offsets = zip(*shards, strict=True)
    position = Position(epochs, offsets)
    assert Position.parse(str(position)) == position


def test_a_position_is_written_as_epochs_and_offsets() -> None:
    """With dots between those of several shards."""
    assert str(Position.single("e", 5)) == "e-5"
    assert str(Position(("e", "f"), (5, 0))) == "e.f-5.0"


@given(st.text(max_size=MAX_TEXT + 2))
def test_any_text_is_a_position_or_none(text: str) -> None:
    """No text of a client raises; a position has as many epochs as offsets."""
    position = Position.parse(text)
    assert position is None or len(position.epochs) == len(position.offsets) > 0


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
        f"a-{MAX_OFFSET + 1}",
        f"a.b-1.{1 << 64}",
    ],
)
def test_a_malformed_position_is_none(text: str) -> None:
    """A missing part, or a number that is too high or in anything but ASCII digits, is no position."""
    assert Position.parse(text) is None


def test_the_text_of_a_position_is_bounded() -> None:
    """The longest one is read, one character more is refused."""
    longest = "e" * (MAX_TEXT - 2) + "-1"
    assert Position.parse(longest) == Position.single("e" * (MAX_TEXT - 2), 1)
    assert Position.parse(longest + "1") is None


def test_the_offset_of_a_position_is_bounded() -> None:
    """Every engine can store it."""
    assert Position.parse(f"e-{MAX_OFFSET}") == Position.single("e", MAX_OFFSET)


@given(NUMBERS)
def test_offsets_are_merged_for_each_shard(pair: Iterable[tuple[int, ...]]) -> None:
    """The later of two is at or after both in every shard, the earlier at or before both."""
    one, other = pair
    pairs = list(zip(one, other, strict=True))
    assert max_offsets(one, other) == tuple(max(each) for each in pairs)
    assert min_offsets(one, other) == tuple(min(each) for each in pairs)


def test_one_offset_is_replaced() -> None:
    """The offsets of the other shards stay."""
    assert [with_offset((1, 2, 3), shard, 9) for shard in range(3)] == [(9, 2, 3), (1, 9, 3), (1, 2, 9)]


def test_names_are_spread_over_the_shards() -> None:
    """Each has its share, a name is always in the same one, and a single shard has all."""
    counts = Counter(shard_of(f"channel-{number}", 4) for number in range(4000))
    assert set(counts) == {0, 1, 2, 3}
    assert min(counts.values()) > 900
    assert (shard_of("a", 4), shard_of("\u00e9", 4), shard_of("a", 1)) == (3, 2, 0)


def test_an_id_is_drawn_in_the_shard_of_a_name() -> None:
    """With a single shard the first one is; where none is found soon, one in another shard is returned."""
    ids = [f"id-{number}" for number in range(200)]
    assert draw_in_shard(iter(ids).__next__, "a", 1) == ids[0]
    own = next(each for each in ids if shard_of(each, 4) == shard_of("a", 4))
    assert draw_in_shard(iter(ids).__next__, "a", 4) == own
    others = [each for each in ids if shard_of(each, 4) != shard_of("a", 4)]
    assert draw_in_shard(iter(others).__next__, "a", 4) == others[4 * DRAWS_PER_SHARD]


EARLIER, JOINED, LATER, OTHER_LOG = 3, 7, 9, -1


@pytest.mark.parametrize(
    ("named", "delivered", "start"),
    [
        (None, EARLIER, JOINED),  # What was before was never the connection's.
        (None, LATER, LATER),
        (None, OTHER_LOG, -1),
        (5, EARLIER, 5),
        (EARLIER, 5, 5),
        (5, LATER, LATER),
        (JOINED, EARLIER, JOINED),
        (0, 0, 0),
        (5, OTHER_LOG, -1),
        (OTHER_LOG, EARLIER, -1),  # Nobody can say what was missed before it joined,
        (OTHER_LOG, JOINED, JOINED),  # but from there on everything is known.
        (LATER, EARLIER, -1),  # A number that did not exist yet is none of this log.
    ],
)
def test_a_client_reads_from_where_its_connection_may(named: int | None, delivered: int, start: int) -> None:
    """From its delivered offset, but not before it joined, unless the application names an earlier one."""
    assert ReadRange.of(JOINED, named).start(delivered) == start


@pytest.mark.parametrize(("named", "bound"), [(None, JOINED), (5, 5), (LATER, JOINED), (OTHER_LOG, JOINED)])
def test_a_connection_reads_nothing_before_its_bound(named: int | None, bound: int) -> None:
    """The bound is where it joined, or an earlier offset that the application named."""
    assert ReadRange.of(JOINED, named).bound == bound


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        (None, ReadRange(JOINED, JOINED)),
        (Position(("a", "b"), (4, 5)), ReadRange(JOINED, 5)),
        (Position(("a", "x"), (4, 5)), ReadRange(JOINED, -1)),
    ],
)
def test_a_member_may_read_from_the_position_that_the_application_named(
    since: Position | None, expected: ReadRange
) -> None:
    """By its offset in the shard of the channel; one of another log proves nothing."""
    assert ReadRange.granted(JOINED, since, ("a", "b"), 1) == expected


def test_a_position_has_an_offset_in_its_own_log_only() -> None:
    """In each shard; a log with another number of shards is another log."""
    position = Position(("a", "b"), (4, 5))
    assert [position.offset_in(("a", "b"), shard) for shard in (0, 1)] == [4, 5]
    assert [position.offset_in(("a", "x"), shard) for shard in (0, 1)] == [4, -1]
    assert position.offset_in(("a",), 0) == -1
    assert UNKNOWN_POSITION.offset_in(("a",), 0) == -1
