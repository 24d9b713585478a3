"""Kinds of option values."""

from typing import Any

import pytest

from channelstream.config.values import (
    AutoSwitch,
    Choice,
    Kind,
    Number,
    Origins,
    Switch,
    Text,
    Whole,
    text_of,
)

ACCEPTED: list[tuple[Kind[Any], str, Any]] = [
    (Whole(0, 10), "0", 0),
    (Whole(0, 10), " 10 ", 10),
    (Number(0.5, 10), "0.5", 0.5),
    (Number(0.5, 10), "1e1", 10.0),
    (Switch(), "1", True),
    (Switch(), "YES", True),
    (Switch(), "off", False),
    (AutoSwitch(), "", None),
    (AutoSwitch(), "Auto", None),
    (AutoSwitch(), "true", True),
    (Choice("a", "b"), "B", "b"),
    (Text(), "", ""),
    (Text(), "100% ünïcode; # = :", "100% ünïcode; # = :"),
    (Origins(), "https://A.example, http://[::1]:81,", ("https://a.example", "http://[::1]:81")),
    (Origins(), "", ()),
    (
        Origins(),
        "https://b.example:443/, capacitor://localhost, null",
        ("https://b.example", "capacitor://localhost", "null"),
    ),
]

REFUSED: list[tuple[Kind[Any], str]] = [
    (Whole(0, 10), "11"),
    (Whole(0, 10), "-1"),
    (Whole(0, 10), "1.0"),
    (Whole(0, 10), ""),
    (Whole(0, 10), "9" * 5000),
    (Number(0.5, 10), "0.4"),
    (Number(0.5, 10), "nan"),
    (Number(0.5, 10), "inf"),
    (Number(0.5, 10), "five"),
    (Switch(), ""),
    (Switch(), "maybe"),
    (AutoSwitch(), "maybe"),
    (Choice("a", "b"), "c"),
    (Text(), "two\nlines"),
    (Text(), " blanks around "),
    (Text(), "\udcff"),
    (Text(max_bytes=3), "ääää"),
    (Text(pattern="a+"), "ab"),
    (Origins(), "example.com"),
    (Origins(), "https://example.com/path"),
    (Origins(), "*"),
]


@pytest.mark.parametrize(("kind", "text", "value"), ACCEPTED)
def test_a_text_that_is_allowed_becomes_the_value(kind: Kind[Any], text: str, value: Any) -> None:
    """A text that is allowed becomes the value."""
    assert kind.parse(text) == value


@pytest.mark.parametrize(("kind", "text", "value"), ACCEPTED)
def test_shows_what_it_reads(kind: Kind[Any], text: str, value: Any) -> None:
    """A value that is shown and read again is the same."""
    assert kind.parse(text_of(value)) == value


@pytest.mark.parametrize(("kind", "text"), REFUSED)
def test_a_text_that_is_not_allowed_is_refused(kind: Kind[Any], text: str) -> None:
    """A text that is not allowed raises ValueError."""
    with pytest.raises(ValueError):
        kind.parse(text)


def test_allowed_names_bounds_and_words() -> None:
    """Allowed values are shown with their bounds and their words, the empty one included."""
    assert Whole(1, 9).allowed == "a whole number from 1 to 9"
    assert Number(0.01, 86400.0).allowed == "a number from 0.01 to 86400"
    assert Choice("", "http").allowed == "one of (empty), http"
