"""Kinds of option values: which text each accepts, and how it describes that; and how a value is written."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from channelstream.core.origins import normalize_origin

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Word = TypeVar("Word", bound=str)

YES = frozenset({"1", "true", "yes", "on", "y", "t"})
NO = frozenset({"0", "false", "no", "off", "n", "f"})
"""Words that both older generations accept for a switch, in any case."""


class Kind(Protocol[T_co]):
    """Parses the values of one kind of option."""

    @property
    def allowed(self) -> str:
        """The allowed values, worded to follow "is not"."""
        ...

    @property
    def metavar(self) -> str:
        """The placeholder of a value in the output of `-h`."""
        ...

    def parse(self, text: str) -> T_co:
        """Return the value of a text.

        Raises:
            ValueError: the text is not allowed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Text:
    """Text on one line without blanks around it, since an INI file cannot keep those."""

    max_bytes: int = 4096
    pattern: str = ""
    description: str = ""

    metavar = "TEXT"

    @property
    def allowed(self) -> str:
        return self.description or f"one line of at most {self.max_bytes} bytes, without blanks around it"

    def parse(self, text: str) -> str:
        if not text.isprintable() or text != text.strip() or len(text.encode()) > self.max_bytes:
            raise ValueError(text)
        if self.pattern and not re.fullmatch(self.pattern, text):
            raise ValueError(text)
        return text


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number between two bounds, both included."""

    minimum: int
    maximum: int

    metavar = "N"

    @property
    def allowed(self) -> str:
        return f"a whole number from {self.minimum} to {self.maximum}"

    def parse(self, text: str) -> int:
        value = int(text)
        check_bounds(self, value)
        return value


@dataclass(frozen=True, slots=True)
class Number:
    """A number, with or without a fraction, between two bounds, both included."""

    minimum: float
    maximum: float

    metavar = "N"

    @property
    def allowed(self) -> str:
        return f"a number from {text_of(self.minimum)} to {text_of(self.maximum)}"

    def parse(self, text: str) -> float:
        value = float(text)
        check_bounds(self, value)
        return value


def check_bounds(kind: Whole | Number, value: float) -> None:
    """Raise ValueError for a value outside the bounds, and for "not a number"."""
    if not kind.minimum <= value <= kind.maximum:
        raise ValueError(value)


@dataclass(frozen=True, slots=True)
class Switch:
    """On or off."""

    allowed = "one of true, false, 1, 0, yes, no, on, off"
    metavar = "yes|no"

    def parse(self, text: str) -> bool:
        word = text.strip().lower()
        if word not in YES | NO:
            raise ValueError(text)
        return word in YES


@dataclass(frozen=True, slots=True)
class AutoSwitch:
    """On, off, or left to the server (None, written `auto`)."""

    allowed = "one of auto, true, false, 1, 0, yes, no, on, off"
    metavar = "yes|no|auto"

    def parse(self, text: str) -> bool | None:
        if text.strip().lower() in {"", "auto"}:
            return None
        return Switch().parse(text)


class Choice(Generic[Word]):
    """One of a few words, in any case."""

    def __init__(self, *words: Word) -> None:
        self.words = words

    @property
    def allowed(self) -> str:
        named = [word or "(empty)" for word in self.words]
        return f"one of {', '.join(named)}"

    @property
    def metavar(self) -> str:
        return "|".join(filter(None, self.words))

    def parse(self, text: str) -> Word:
        given = text.strip().lower()
        for word in self.words:
            if word == given:
                return word
        raise ValueError(text)


@dataclass(frozen=True, slots=True)
class Origins:
    """Origins of pages and apps, in the form that browsers send (`core.origins`)."""

    allowed = (
        "a list of origins such as https://example.com, without a path; also capacitor://localhost, and null"
    )
    metavar = "LIST"

    def parse(self, text: str) -> tuple[str, ...]:
        return tuple(normalize_origin(entry) for entry in split_list(text))


def text_of(value: Any) -> str:
    """Return the text of a value, as `parse` of its kind accepts it."""
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.10g}"
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def split_list(text: str) -> Iterable[str]:
    """Return the entries of a list, separated by commas, blanks or line ends; empty ones are dropped."""
    return text.replace(",", " ").split()
