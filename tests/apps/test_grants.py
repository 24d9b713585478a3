"""Grants: which channels a pattern has."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.apps.grants import EVERYTHING, MAX_CHARACTERS, MAX_PATTERNS, NOTHING, Patterns

SEGMENTS = st.sampled_from(["", "a", "b", "room", "*"])
NAMES = st.lists(SEGMENTS, min_size=1, max_size=5).map(".".join)
PATTERNS = st.tuples(NAMES, st.sampled_from(["", "", ".**"])).map("".join).filter(bool)


def expected(pattern: str, channel: str) -> bool:
    """What a pattern means, as a regular expression."""
    forms = {"*": r"[^.]+", "**": r"(?=.*[^.]).*"}
    parts = [forms.get(segment, re.escape(segment)) for segment in pattern.split(".")]
    return re.fullmatch(r"\.".join(parts), channel) is not None


@pytest.mark.parametrize(
    ("pattern", "has", "has_not"),
    [
        ("news", ["news"], ["new", "newss", "news.", "News"]),
        ("room.*", ["room.1", "room.*"], ["room", "room.", "room.1.chat", "rooms.1", ".1"]),
        ("room.*.chat", ["room.1.chat"], ["room..chat", "room.chat", "room.1.2.chat"]),
        ("room.**", ["room.1", "room.1.chat", "room..1"], ["room", "room.", "room..", "rooms.1"]),
        ("*.**", ["a.b", "a.b.c"], ["a", ".b", "a."]),
        ("*", ["a", "**"], ["", "a.b"]),
        ("**", ["a", "a.b", ".a"], ["", ".."]),
        ("x" * MAX_CHARACTERS, ["x" * MAX_CHARACTERS], ["x"]),
    ],
)
def test_a_star_stands_for_a_segment_and_two_for_all_that_follow(
    pattern: str, has: list[str], has_not: list[str]
) -> None:
    """None of them stands for nothing."""
    patterns = Patterns(("other", pattern))
    assert [name for name in has if not patterns.has(name)] == []
    assert [name for name in has_not if patterns.has(name)] == []


@given(PATTERNS, NAMES)
def test_a_pattern_has_the_channels_of_its_regular_expression(pattern: str, channel: str) -> None:
    """The expression is a second way to say the same, which the server does not use."""
    assert Patterns((pattern,)).has(channel) is expected(pattern, channel)


@given(st.lists(PATTERNS, max_size=4), st.lists(NAMES))
def test_a_channel_is_missing_if_no_pattern_has_it(patterns: list[str], channels: list[str]) -> None:
    """In the order in which they are asked for."""
    several = Patterns(tuple(patterns))
    assert several.missing(channels) == [
        each for each in channels if not any(Patterns((one,)).has(each) for one in patterns)
    ]


@pytest.mark.parametrize(
    "text", ["", "room*", "*room", "***", "**.room", "a.**.b", "a.*b", "a.b**", "x" * (MAX_CHARACTERS + 1)]
)
def test_other_stars_and_long_texts_are_no_patterns(text: str) -> None:
    """A pattern that looks as if it meant more than it does is a fault of the token, which is refused."""
    with pytest.raises(ValueError, match=r"a (pattern|star)"):
        Patterns((text,))


def test_a_grant_has_a_bounded_number_of_patterns() -> None:
    """So many are taken, and one more is not."""
    texts = tuple(f"room.{number}" for number in range(MAX_PATTERNS + 1))
    assert Patterns(texts[1:]).has("room.1")
    with pytest.raises(ValueError, match="at most"):
        Patterns(texts)


def test_everything_and_nothing_are_what_they_are_called() -> None:
    """Of channels that have a name."""
    assert EVERYTHING.missing(["a", "a.b", "*"]) == []
    assert NOTHING.missing(["a"]) == ["a"]
