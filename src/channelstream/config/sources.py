"""What the INI file and the environment say, as text, before it is judged."""

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
"""Names the INI file when the command line does not."""

USUAL_FILE = "channelstream.ini"
"""What `make-config` writes. It is read only where it is named."""


@dataclass(frozen=True, slots=True)
class Given:
    """One value as somebody wrote it, and where."""

    text: str
    source: str


@dataclass(frozen=True, slots=True)
class Layer:
    """What one source gives, by option name, and the names it gives that no option has."""

    given: Mapping[str, Given]
    warnings: tuple[str, ...] = ()


def from_file(path: str) -> Layer:
    """The `[channelstream]` section of an INI file; other sections belong to other programs.

    Raises:
        ConfigError: the file cannot be read, is no INI file or lacks the section.
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
    """What is wrong and in which line, without the line itself: it may hold a secret."""
    if isinstance(error, MissingSectionHeaderError):
        return f"line {error.lineno} stands before the first section; [{SECTION}] has to come before it"
    kind = type(error).__name__.removesuffix("Error")
    line = getattr(error, "lineno", None) or next((at for at, _ in getattr(error, "errors", ())), 0)
    return f"{kind} in line {line}"


def from_environ(environ: Mapping[str, str]) -> Layer:
    """The variables `CHANNELSTREAM_<NAME>`."""
    return _layer(
        (key.removeprefix(PREFIX).lower(), text, key)
        for key, text in environ.items()
        if key.startswith(PREFIX) and key != FILE_VARIABLE
    )


def _layer(entries: Iterable[tuple[str, str, str]]) -> Layer:
    """Sort (name, text, source) into options and unknown names."""
    given: dict[str, Given] = {}
    warnings: list[str] = []
    for name, text, source in entries:
        if name in BY_NAME:
            given[BY_NAME[name].name] = Given(text, source)
        else:
            warnings.append(f"{source}: there is no option {name!r}{suggest(name)}; ignored")
    return Layer(given, tuple(warnings))


def suggest(name: str, spell: Callable[[str], str] = str) -> str:
    """The option a stranger may have meant, spelt as its source spells it."""
    close = get_close_matches(name, BY_NAME, n=1)
    return f" (did you mean {spell(close[0])}?)" if close else ""
