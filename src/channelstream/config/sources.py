"""Reads the INI file and the environment as text; values are checked later."""

from collections.abc import Callable, Iterable, Mapping
from configparser import ConfigParser, Error, MissingSectionHeaderError
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from channelstream.config.settings import BY_NAME
from channelstream.errors import ConfigError

SECTION = "channelstream"
PREFIX = "CHANNELSTREAM_"
FILE_VARIABLE = "CHANNELSTREAM_INI"
"""Environment variable with the path of the INI file, if no flag names one."""

USUAL_FILE = "channelstream.ini"
"""The file that `make-config` writes. It is read only if a flag or the environment names it."""


@dataclass(frozen=True, slots=True)
class Given:
    """The text of a value, and its source."""

    text: str
    source: str


@dataclass(frozen=True, slots=True)
class Layer:
    """The values of one source by option name, and warnings about unknown names."""

    given: Mapping[str, Given]
    warnings: tuple[str, ...] = ()


def from_file(path: str) -> Layer:
    """Return the values of the section `[channelstream]` of an INI file; other sections are ignored.

    Raises:
        ConfigError: the file cannot be read, is not an INI file, or does not have the section.
    """
    parser = ConfigParser(interpolation=None)
    try:
        parser.read_string(Path(path).read_text("utf-8-sig"), source=path)
    except OSError as error:
        raise ConfigError(f"{path!r} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path!r} is not UTF-8 text") from error
    except Error as error:
        raise ConfigError(f"{path!r} is not an INI file: {_where(error)}") from error
    if not parser.has_section(SECTION):
        raise ConfigError(f"{path!r} has no [{SECTION}] section")
    return _layer((name, text, repr(path)) for name, text in parser.items(SECTION))


def _where(error: Error) -> str:
    """Return the fault and its line number, without the line itself, which may have a secret."""
    if isinstance(error, MissingSectionHeaderError):
        return f"line {error.lineno} stands before the first section; [{SECTION}] has to come before it"
    kind = type(error).__name__.removesuffix("Error")
    line = getattr(error, "lineno", None) or next((at for at, _ in getattr(error, "errors", ())), 0)
    return f"{kind} in line {line}"


def from_environ(environ: Mapping[str, str]) -> Layer:
    """Return the values of the variables `CHANNELSTREAM_<NAME>`."""
    return _layer(
        (key.removeprefix(PREFIX).lower(), text, key)
        for key, text in environ.items()
        if key.startswith(PREFIX) and key != FILE_VARIABLE
    )


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


def suggest(name: str, spell: Callable[[str], str] = str) -> str:
    """Return a hint with the most similar option, in the spelling of its source; empty if there is none."""
    close = get_close_matches(name, BY_NAME, n=1)
    return f" (did you mean {spell(close[0])}?)" if close else ""
