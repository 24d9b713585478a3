"""Reads a Dockerfile and a .dockerignore, as far as those of this project go: nothing here can build images.

The rules are those of https://docs.docker.com/reference/dockerfile and https://docs.docker.com/build/concepts/context.
"""

import json
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        flags: such as `from` of COPY.
        value: the rest of its line.
    """

    word: str
    flags: dict[str, str]
    value: str

    @property
    def words(self) -> list[str]:
        """The value as words: a JSON list, or as a shell splits it."""
        return json.loads(self.value) if self.value.startswith("[") else shlex.split(self.value)

    @property
    def pairs(self) -> dict[str, str]:
        """The value of ENV or LABEL."""
        return dict(word.split("=", 1) for word in self.words)


@dataclass(frozen=True)
class Stage:
    """What one FROM begins.

    Attributes:
        base: the image below it.
    """

    base: str
    name: str
    instructions: tuple[Instruction, ...]

    def all(self, word: str) -> list[Instruction]:
        return [each for each in self.instructions if each.word == word]

    def one(self, word: str) -> Instruction:
        [found] = self.all(word)
        return found

    @property
    def environ(self) -> dict[str, str]:
        """The variables of ENV."""
        return {name: value for each in self.all("ENV") for name, value in each.pairs.items()}

    @property
    def probe(self) -> list[str]:
        """The command of HEALTHCHECK."""
        found: list[str] = json.loads(self.one("HEALTHCHECK").value.removeprefix("CMD "))
        return found


def stages(text: str) -> list[Stage]:
    """Return the stages of a Dockerfile."""
    found: list[Stage] = []
    arguments: dict[str, str] = {}
    for each in _instructions(text):
        if each.word == "ARG" and not found:
            arguments |= each.pairs
        elif each.word == "FROM":
            base, _, name = each.value.partition(" AS ")
            found.append(Stage(base.replace("${BASE}", arguments["BASE"]), name, ()))
        else:
            last = found.pop()
            found.append(Stage(last.base, last.name, (*last.instructions, each)))
    return found


def _instructions(text: str) -> Iterator[Instruction]:
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for line in lines.replace("\\\n", " ").splitlines():
        if line.strip():
            word, rest = line.split(maxsplit=1)
            flags = {}
            while option := re.match(r"--([\w-]+)=(\S+)\s+", rest):
                flags[option[1]], rest = option[2], rest[option.end() :]
            yield Instruction(word, flags, rest)


# -- .dockerignore


class Ignored:
    """What a .dockerignore keeps out of a build: the last pattern that matches a path or a folder above it decides."""

    def __init__(self, text: str) -> None:
        lines = [line.strip() for line in text.splitlines()]
        self._patterns = [
            (line.startswith("!"), line.removeprefix("!")) for line in lines if line and line[0] != "#"
        ]
        self._matchers = [(is_kept, _pattern(pattern)) for is_kept, pattern in self._patterns]

    def __contains__(self, path: str) -> bool:
        ignored = False
        paths = _with_parents(path)
        for is_kept, matcher in self._matchers:
            if any(map(matcher.fullmatch, paths)):
                ignored = not is_kept
        return ignored

    def has_kept_below(self, folder: str) -> bool:
        """Whether a pattern keeps something in a folder."""
        return any(is_kept and f"{pattern}/".startswith(f"{folder}/") for is_kept, pattern in self._patterns)

    def context(self, root: Path) -> set[str]:
        """Return the files below a folder that a build gets."""
        found = set[str]()
        for folder, folders, files in os.walk(root):
            where = Path(folder).relative_to(root)
            folders[:] = [
                name
                for name in folders
                if (path := (where / name).as_posix()) not in self or self.has_kept_below(path)
            ]
            found |= {path for name in files if (path := (where / name).as_posix()) not in self}
        return found


def _with_parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _pattern(text: str) -> re.Pattern[str]:
    """Return an expression for a pattern, in which `*` stays in one folder and `**/` stands for any folders, or none."""
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile(
        re.sub(r"\*\*/|\*\*|\*|\?|[^*?]+", lambda each: parts.get(each[0]) or re.escape(each[0]), text)
    )
