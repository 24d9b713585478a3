"""Grants: which channels a client may use itself, as patterns of names.

A pattern is a name, or a name in whose place of a segment stands `*` (segments are divided by dots): `room.*` has the
channels `room.1` and `room.2`, and not `room`, `room.` or `room.1.chat`. `**` as the last segment stands for one or more
segments: `room.**` has `room.1` and `room.1.chat`, and `**` has every channel. A star beside other characters has no
meaning, so that nobody takes `room*` for what it is elsewhere.

To look a name up takes time in proportion to its length and the number of patterns, whatever both are: there is no
backtracking.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

MAX_PATTERNS: Final = 100
"""Most patterns of one grant."""
MAX_CHARACTERS: Final = 256
"""Longest pattern: the longest name of a channel."""
ONE: Final = "*"
REST: Final = "**"


def _check(text: str) -> None:
    """Raise ValueError for a text that is not a pattern."""
    if not 1 <= len(text) <= MAX_CHARACTERS:
        raise ValueError(f"a pattern has 1 to {MAX_CHARACTERS} characters")
    *first, last = text.split(".")
    if any(ONE in segment and segment != ONE for segment in first) or (
        ONE in last and last not in (ONE, REST)
    ):
        raise ValueError("a star stands for a whole segment, and two stars for the last ones")


@dataclass(frozen=True, slots=True)
class Patterns:
    """The channels that one grant names.

    Attributes:
        texts: the patterns, as a token has them.
    """

    texts: tuple[str, ...] = ()
    _names: frozenset[str] = field(init=False, repr=False, compare=False)
    _wild: tuple[tuple[str, ...], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Divide them into names and patterns with stars.

        Raises:
            ValueError: they are too many, or one is not a pattern.
        """
        if len(self.texts) > MAX_PATTERNS:
            raise ValueError(f"a grant has at most {MAX_PATTERNS} patterns")
        for text in self.texts:
            _check(text)
        wild = tuple(tuple(text.split(".")) for text in self.texts if ONE in text)
        object.__setattr__(self, "_names", frozenset(text for text in self.texts if ONE not in text))
        object.__setattr__(self, "_wild", wild)

    def has(self, channel: str) -> bool:
        """Whether a pattern matches the name of a channel."""
        if channel in self._names:
            return True
        if not self._wild:
            return False
        segments = channel.split(".")
        return any(_matches(pattern, segments) for pattern in self._wild)

    def missing(self, channels: Iterable[str]) -> list[str]:
        """Return the channels that no pattern matches, in their order."""
        return [channel for channel in channels if not self.has(channel)]


NOTHING: Final = Patterns()
EVERYTHING: Final = Patterns((REST,))


@dataclass(frozen=True, slots=True)
class Grants:
    """What a client may do by itself.

    Attributes:
        subscribe: channels that it may join.
        publish: channels to which it may publish.
        history: channels whose history it may read.
        presence: channels whose users it may read.
    """

    subscribe: Patterns = NOTHING
    publish: Patterns = NOTHING
    history: Patterns = NOTHING
    presence: Patterns = NOTHING


NO_GRANTS: Final = Grants()


def _matches(pattern: tuple[str, ...], segments: list[str]) -> bool:
    """Whether segments are as a pattern has them; no `*` and no `**` stands for nothing."""
    if pattern[-1] == REST:
        pattern, rest = pattern[:-1], segments[len(pattern) - 1 :]
        if not any(rest):
            return False
        segments = segments[: len(pattern)]
    return len(segments) == len(pattern) and all(
        segment == asked or (asked == ONE and segment != "")
        for asked, segment in zip(pattern, segments, strict=True)
    )
