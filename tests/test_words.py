"""The language: code, tests, scripts and documents use the field's words and none of those that are banned here."""

import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
TREES = ("src", "tests", "scripts", "clients", "docs", "examples", "spec")
FILES = ("Makefile", "pyproject.toml")
WRITTEN = re.compile(r"\.(py|lua|js|cjs|ts|html|css|sh|c|go|md|toml|yaml|conf)$")
"""Kinds of files in TREES that people write."""
GENERATED = {"__pycache__", "node_modules", "build", "dist"}
"""Folders that tools write."""


class Banned(NamedTuple):
    """A word or phrase that stays out of the project.

    Attributes:
        text: as prose has it, in lower case; identifiers count as well (`told_lost`, `wasTold`, `TOLD`).
        reason: why a reader stumbles over it.
        instead: what to write.
    """

    text: str
    reason: str
    instead: str


class Exempt(NamedTuple):
    """A text that keeps a banned word.

    Attributes:
        where: the file or folder, from the root.
        text: as it stands there; empty for the whole file.
        reason: why it does not change.
    """

    where: str
    text: str
    reason: str


EAR = "hides whether an event was sent, written or received"
TONGUE = "hides who informs whom, and by what"
RIDDLE = "leaves the reader to guess who is meant"
OURS = "a word of our own where the field has one"
BANNED = (
    Banned("told", TONGUE, "sent, reported, informed or announced"),
    Banned("untold", TONGUE, "pending"),
    Banned("heard", EAR, "received or delivered"),
    Banned("hear", EAR, "receive"),
    Banned("hears", EAR, "receives"),
    Banned("deaf", EAR, "discards or does not read"),
    Banned("whoever", RIDDLE, "the client that, the caller that or the node that"),
    Banned("counted out", OURS, "unregistered or decremented"),
    Banned("counted in", OURS, "registered, incremented or included in"),
    Banned("stand still", "means stopped, stalled or unchanged", "one of these"),
    Banned("stood still", "means stopped, stalled or unchanged", "one of these"),
    Banned("stands still", "means stopped, stalled or unchanged", "one of these"),
    Banned("anew", "is archaic, and hides whether a thing is repeated or replaced", "again"),
    Banned("as it were", "excuses a word that does not fit", "the word that fits"),
    Banned("by then", "leaves the reader to guess which moment is meant", "the moment"),
    Banned("at a stretch", "names no bound", "in one turn of the loop or in one chunk"),
    Banned("astray", OURS, "unowned"),
    Banned("stakes", OURS, "registrations"),
    Banned("keeper", OURS, "lease manager or reconciler"),
    Banned("outlet", OURS, "format"),
    Banned("obey", OURS, "execute, apply or follow"),
    Banned("bury", OURS, "reap"),
    Banned("doubtful", OURS, "unconfirmed"),
    Banned("ledger", OURS, "log"),
    Banned("dialect", OURS, "protocol"),
)
EXEMPT = (
    Exempt("tests/test_words.py", "", "lists the words"),
    Exempt("clients/python", "NotHeard", "a published name of the client"),
    Exempt("tests/clients/python", "NotHeard", "a published name of the client"),
    Exempt("docs/testing.md", "NotHeard", "a published name of the client"),
)


GAP = r"[\s#*/>_-]*"


@cache
def loose_pattern(text: str) -> re.Pattern[str]:
    """Match a banned text in lower case, as a part of words too: far faster than `pattern`."""
    return re.compile(GAP.join(text.split()))


@cache
def pattern(text: str) -> re.Pattern[str]:
    """Match a banned text as whole words: in prose, over the end of a line too, and in identifiers of any case."""
    words = GAP.join(f"[{word[0].upper()}{word[0]}]{word[1:]}" for word in text.split())
    title = GAP.join(map(str.capitalize, text.split()))
    upper = GAP.join(map(str.upper, text.split()))
    return re.compile(
        rf"(?<![A-Za-z])(?:{words})(?![a-z])|(?<=[a-z])(?:{title})(?![a-z])|(?<![A-Za-z])(?:{upper})(?![A-Za-z])"
    )


def banned_in(text: str) -> Iterator[tuple[int, Banned]]:
    """Find the banned words of a text, each with its offset."""
    lowered = text.lower()
    for banned in BANNED:
        if loose_pattern(banned.text).search(lowered):
            yield from ((found.start(), banned) for found in pattern(banned.text).finditer(text))


def is_in(name: str, where: str) -> bool:
    """Whether a path from the root is this file, or is in this folder."""
    return name == where or name.startswith(f"{where}/")


def without_exempt(name: str, text: str) -> str:
    """Blank out what may stay; offsets do not change."""
    for exempt in EXEMPT:
        if is_in(name, exempt.where):
            text = text.replace(exempt.text, " " * len(exempt.text)) if exempt.text else ""
    return text


@cache
def files() -> tuple[Path, ...]:
    """All files that are checked."""
    found = [*ROOT.glob("*.md"), *(ROOT / name for name in FILES)]
    for tree in TREES:
        for where, folders, names in os.walk(ROOT / tree):
            folders[:] = [name for name in folders if name not in GENERATED]
            found += [Path(where, name) for name in names if WRITTEN.search(name)]
    return tuple(sorted(found))


def offences() -> Iterator[str]:
    for path in files():
        name = path.relative_to(ROOT).as_posix()
        text = without_exempt(name, path.read_text(encoding="utf-8"))
        for offset, banned in banned_in(text):
            line = text.count("\n", 0, offset) + 1
            yield f"{name}:{line}: {banned.text!r} {banned.reason}: write {banned.instead}"


def test_no_banned_words() -> None:
    """A wire name, an option or another program's name that needs one of them goes to EXEMPT, with its reason."""
    found = list(offences())
    assert not found, "\n".join(["words of our own:", *found])


@pytest.mark.parametrize("banned", BANNED, ids=lambda banned: banned.text.replace(" ", "-"))
def test_each_banned_word_is_found(banned: Banned) -> None:
    """In prose, at the start of a sentence, over the end of a line, and in identifiers of every case."""
    snake = banned.text.replace(" ", "_")
    title = banned.text.title().replace(" ", "")
    forms = (
        f"It is {banned.text}.",
        f"{banned.text.capitalize()} or not",
        banned.text.replace(" ", "\n    # "),
        f"    def test_{snake}_twice(",
        f"was{title}(",
        f"class {title}Log:",
        snake.upper(),
    )
    assert [form for form in forms if banned not in [word for _, word in banned_in(form)]] == []


@pytest.mark.parametrize(
    "text", ["a bookkeeper", "hearsay", "unheard-of", "stakeholder", "obeyed", "sledgehammer"]
)
def test_parts_of_other_words_are_not_found(text: str) -> None:
    assert list(banned_in(text)) == []


@pytest.mark.parametrize("exempt", EXEMPT, ids=lambda exempt: exempt.where)
def test_exemptions_are_needed(exempt: Exempt) -> None:
    """A name that is gone, or that contains no banned word, leaves the list."""
    assert list(banned_in(exempt.text)) or not exempt.text
    named = [path for path in files() if is_in(path.relative_to(ROOT).as_posix(), exempt.where)]
    assert any(exempt.text in path.read_text(encoding="utf-8") for path in named)
