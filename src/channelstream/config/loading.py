"""All sources merged into Settings: flags beat the environment, which beats the file."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from channelstream.config.flags import Flags, read_flags, settings_parser
from channelstream.config.networks import Networks
from channelstream.config.option import Option
from channelstream.config.settings import BY_NAME, Settings
from channelstream.config.sources import FILE_VARIABLE, USUAL_FILE, Given, Layer, from_environ, from_file
from channelstream.errors import ConfigError

_SHOWN_CHARS = 80
"""How much of a wrong value an error repeats."""
_LOGIN = re.compile(r"//.*@", re.DOTALL)
"""Where an address may hold a password."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and what their owner should be told."""

    settings: Settings
    warnings: tuple[str, ...]


@dataclass(slots=True)
class Reading:
    """The values read so far, and all that was wrong with others."""

    values: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def settings(self) -> Settings:
        """The settings these values make.

        Raises:
            ConfigError: the first problem.
        """
        if self.problems:
            raise ConfigError(self.problems[0])
        return Settings(**self.values)

    def take(self, option: Option, given: Given) -> None:
        """Read one value."""
        kind = option.declared.kind
        try:
            self.values[option.name] = kind.parse(given.text)
        except ValueError:
            self.problems.append(refusal(option, given))
        if isinstance(kind, Networks):
            self.warnings += [
                f"{given.source}: {option.name}: {entry!r} is a placeholder and admits nobody"
                for entry in kind.placeholders(given.text)
            ]


def refusal(option: Option, given: Given) -> str:
    """One line that names option, value, source and what is allowed; never a secret, nor the login in an address."""
    text = _LOGIN.sub("//***@", given.text)
    shown = "its value" if option.declared.secret else repr(text[:_SHOWN_CHARS])
    return f"{option.name}: {shown} (from {given.source}) is not {option.allowed}"


def read_layers(layers: Sequence[Layer]) -> Reading:
    """Judge every value that no later layer replaces."""
    reading = Reading(warnings=[warning for layer in layers for warning in layer.warnings])
    merged = {name: given for layer in layers for name, given in layer.given.items()}
    for name, given in merged.items():
        reading.take(BY_NAME[name], given)
    return reading


def read(flags: Flags, environ: Mapping[str, str]) -> Reading:
    """Read the file that flags or environment name, the environment, and the flags."""
    path = flags.file or environ.get(FILE_VARIABLE)
    file = from_file(path) if path else _no_file()
    return read_layers([file, from_environ(environ), Layer(flags.given)])


def _no_file() -> Layer:
    """Where no file is named, one that may be meant is pointed out."""
    is_here = Path(USUAL_FILE).is_file()
    return Layer(
        {}, (f"{USUAL_FILE} is here and was not read: name it with -i {USUAL_FILE}",) if is_here else ()
    )


def load(flags: Flags, environ: Mapping[str, str]) -> Loaded:
    """The settings that flags, environment and file make.

    Raises:
        ConfigError: the file cannot be read, or a value is not allowed.
    """
    reading = read(flags, environ)
    return Loaded(reading.settings(), tuple(reading.warnings))


def load_settings(argv: Sequence[str], environ: Mapping[str, str]) -> Loaded:
    """The settings of a command line (without the program's name) and an environment.

    Raises:
        ConfigError: a flag is unknown, the file cannot be read, or a value is not allowed.
    """
    return load(read_flags(settings_parser(), argv), environ)
