"""Reads the INI file and the environment as text; values are checked later."""

from collections.abc import Iterable, Mapping
from configparser import (
    ConfigParser,
    DuplicateOptionError,
    DuplicateSectionError,
    Error,
    MissingSectionHeaderError,
)
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from channelstream.config import app_names
from channelstream.config.settings import BY_NAME, PER_APP
from channelstream.errors import ConfigError

SECTION = "channelstream"
PREFIX = "CHANNELSTREAM_"
FILE_VARIABLE = "CHANNELSTREAM_INI"
"""Environment variable with the path of the INI file, if no flag names one."""
KEY_VARIABLE = "CHANNELSTREAM_KEY_SECRET"
"""Environment variable with the secret of the key with which a command signs (`--key`); a server reads none."""

USUAL_FILE = "channelstream.ini"
"""The file that `make-config` writes. It is read only if a flag or the environment names it."""
MAX_BYTES: Final = 1 << 20
"""Longest INI file: 10 KiB for each of as many applications as it may have (`app_names.MAX_APPS`)."""


@dataclass(frozen=True, slots=True)
class Given:
    """The text of a value, and its source."""

    text: str
    source: str


@dataclass(frozen=True, slots=True)
class Layer:
    """The values of one source by option name, and warnings about unknown names.

    Attributes:
        apps: the values of further applications, by id.
        problems: why the sections of applications cannot be used.
    """

    given: Mapping[str, Given]
    warnings: tuple[str, ...] = ()
    apps: Mapping[str, Mapping[str, Given]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def from_file(path: str) -> Layer:
    """Return the values of an INI file: of `[channelstream]` and of the sections of applications; others are ignored.

    Raises:
        ConfigError: the file cannot be read, is too long or not an INI file, or does not have the section.
    """
    parser = ConfigParser(interpolation=None)
    try:
        parser.read_string(_read(path).decode("utf-8-sig"), source=path)
    except OSError as error:
        raise ConfigError(f"{path!r} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path!r} is not UTF-8 text") from error
    except Error as error:
        raise ConfigError(f"{path!r} is not an INI file: {_where(error)}") from error
    if not parser.has_section(SECTION):
        raise ConfigError(f"{path!r} has no [{SECTION}] section")
    layer = _layer((name, text, repr(path)) for name, text in parser.items(SECTION))
    apps, problems = _app_sections(parser, repr(path))
    return replace(layer, apps=apps, problems=tuple(problems))


def _read(path: str) -> bytes:
    """Return a whole file; a pipe as well, as a shell's `<(command)`.

    Raises:
        ConfigError: it is longer than the longest; a device may have no end.
    """
    with Path(path).open("rb") as file:
        text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{path!r} is no file of options: it has more than {MAX_BYTES} bytes")
    return text


def _app_sections(parser: ConfigParser, source: str) -> tuple[dict[str, dict[str, Given]], list[str]]:
    """Return the values of the sections of applications, and what is wrong with them.

    A name that is no option of an application is a fault, since what it was meant to restrict would be open.
    """
    apps: dict[str, dict[str, Given]] = {}
    problems: list[str] = []
    for title in parser.sections():
        app_id = app_names.of_section(title)
        if app_id is None:
            continue
        where = f"{source}: [{title}]"
        if fault := app_names.fault_of_id(app_id):
            problems.append(f"{where}: {fault}")
            continue
        values = apps.setdefault(app_id, {})
        for name, text in parser.items(title):
            if parser.defaults().get(name) == text:
                continue  # ConfigParser adds those of a section [DEFAULT] to each.
            if name in BY_NAME and BY_NAME[name].name in PER_APP:
                values[BY_NAME[name].name] = Given(text, where)
            elif name in BY_NAME:
                problems.append(f"{where}: {name} is an option of the whole server: set it in [{SECTION}]")
            else:
                problems.append(f"{where}: there is no option {name!r}{suggest(name)}")
    return apps, problems


def _where(error: Error) -> str:
    """Return the fault and its line number, without the line itself, which may have a secret."""
    if isinstance(error, MissingSectionHeaderError):
        return f"line {error.lineno} stands before the first section; [{SECTION}] has to come before it"
    line = getattr(error, "lineno", None) or next((at for at, _ in getattr(error, "errors", ())), 0)
    if isinstance(error, DuplicateSectionError):
        return f"line {line} begins a section for the second time"
    if isinstance(error, DuplicateOptionError):
        return f"line {line} sets an option for the second time"
    return f"line {line} is neither a section nor an option with its value"


def from_environ(environ: Mapping[str, str]) -> Layer:
    """Return the values of the variables `CHANNELSTREAM_<NAME>` and `CHANNELSTREAM_APP_<ID>_<NAME>`."""
    apps: dict[str, dict[str, Given]] = {}
    others: list[tuple[str, str, str]] = []
    for key, text in environ.items():
        if not key.startswith(PREFIX) or key in (FILE_VARIABLE, KEY_VARIABLE):
            continue
        name = key.removeprefix(PREFIX).lower()
        if found := app_names.of_variable(name):
            apps.setdefault(found[0], {})[BY_NAME[found[1]].name] = Given(text, key)
        else:
            others.append((name, text, key))
    return replace(_layer(others), apps=apps)


def _layer(entries: Iterable[tuple[str, str, str]]) -> Layer:
    """Return a layer of (name, text, source) entries; unknown names become warnings."""
    given: dict[str, Given] = {}
    warnings: list[str] = []
    for name, text, source in entries:
        if name in BY_NAME:
            given[BY_NAME[name].name] = Given(text, source)
        else:
            warnings.append(f"{source}: there is no option {name!r}{suggest(name)}; ignored")
    return Layer(given, tuple(warnings))


def suggest(name: str) -> str:
    """Return a hint with the most similar option; empty if there is none."""
    close = get_close_matches(name, BY_NAME, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
