"""Merges all sources into `Settings`: flags override the environment, which overrides the file."""

import re
import stat
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from channelstream.apps.api_key import MIN_SECRET_BYTES
from channelstream.config.app_names import MAX_APPS, SECTION_PREFIX
from channelstream.config.app_section import AppSection
from channelstream.config.flags import Flags
from channelstream.config.networks import Networks
from channelstream.config.option import Option
from channelstream.config.settings import BY_NAME, Settings
from channelstream.config.sources import FILE_VARIABLE, USUAL_FILE, Given, Layer, from_environ, from_file
from channelstream.config.values import Kind, Origins, split_list
from channelstream.errors import ConfigError
from channelstream.regular_file import mode_of

_SHOWN_CHARS = 80
"""Most characters of a wrong value that an error repeats."""
_LOGIN = re.compile(r"//.*@", re.DOTALL)
"""The part of an address that may have a password."""

_SETTING = re.compile(r"\n\s*([\w.-]+)\s*([=:])")
"""A line that may set something if it is not indented."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and warnings for the operator."""

    settings: Settings
    warnings: tuple[str, ...]


@dataclass(slots=True)
class Reading:
    """The values read so far, with errors and warnings.

    Attributes:
        apps: those of further applications, by id.
    """

    values: dict[str, Any] = field(default_factory=dict)
    apps: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def settings(self) -> Settings:
        """Return the settings with these values.

        Raises:
            ConfigError: the first error.
        """
        if self.problems:
            raise ConfigError(self.problems[0])
        apps = tuple(AppSection(app_id, values) for app_id, values in sorted(self.apps.items()))
        return Settings(**self.values, apps=apps)

    def take(self, option: Option, given: Given, app_id: str | None = None) -> None:
        """Read one value, of a further application if `app_id` is given."""
        kind = option.declared.kind
        values = self.values if app_id is None else self.apps[app_id]
        try:
            values[option.name] = kind.parse(given.text)
        except ValueError:
            self.problems.append(refusal(option, given))
        if isinstance(kind, Networks):
            self.warnings += [
                f"{given.source}: {option.name}: {entry!r} is a placeholder and admits nobody"
                for entry in kind.placeholders(given.text)
            ]


def refusal(option: Option, given: Given) -> str:
    """Return a line with option, value, source and allowed values; without secrets and logins in addresses.

    A line of the file that is indented continues the value before it: what it sets may be a secret.
    """
    text, advice = given.text, ""
    if (swallowed := _swallowed(text)) is not None:
        text = text[: swallowed.start()]
        line = f"the line of {swallowed[1]}" if _is_option(swallowed[1]) else "a line with ="
        advice = f"; {line} is indented, and so is a part of this value"
    text = _LOGIN.sub("//***@", _wrong_part(option.declared.kind, text))
    shown = "its value" if option.declared.secret else repr(text[:_SHOWN_CHARS])
    return f"{option.name}: {shown} (from {given.source}) is not {option.allowed}{advice}"


def _wrong_part(kind: Kind[Any], text: str) -> str:
    """Return the first wrong entry of a list of addresses or origins, which may be long; of other values the text."""
    if isinstance(kind, Networks | Origins):
        for entry in split_list(text):
            try:
                kind.parse(entry)
            except ValueError:
                return entry
    return text


def _swallowed(text: str) -> re.Match[str] | None:
    """Return the first line in a value that looks like a setting; with a colon, as addresses have, only an option."""
    return next((line for line in _SETTING.finditer(text) if line[2] == "=" or _is_option(line[1])), None)


def _is_option(name: str) -> bool:
    return name.lower() in BY_NAME


def read_layers(layers: Sequence[Layer]) -> Reading:
    """Parse every value that no later layer overrides."""
    reading = Reading(
        warnings=[warning for layer in layers for warning in layer.warnings],
        problems=[problem for layer in layers for problem in layer.problems],
    )
    merged = {name: given for layer in layers for name, given in layer.given.items()}
    for name, given in merged.items():
        reading.take(BY_NAME[name], given)
    for app_id in sorted({app_id for layer in layers for app_id in layer.apps}):
        reading.apps[app_id] = {}
        sections = [layer.apps.get(app_id, {}) for layer in layers]
        for name, given in ChainMap(*map(dict, reversed(sections))).items():
            reading.take(BY_NAME[name], given, app_id)
    if len(reading.apps) > MAX_APPS:
        reading.problems.append(
            f"there are {len(reading.apps)} sections [app:...], at most {MAX_APPS} are served"
        )
    return reading


def read(flags: Flags, environ: Mapping[str, str]) -> Reading:
    """Read the file named by flags or environment, the environment, and the flags."""
    path = flags.file or environ.get(FILE_VARIABLE)
    file = from_file(path) if path else _no_file()
    reading = read_layers([file, from_environ(environ), Layer(flags.given)])
    if not reading.problems:
        reading.warnings += _refused_tokens(reading.settings())
    return reading


def _refused_tokens(settings: Settings) -> Iterator[str]:
    """Yield a warning where options of tokens are set, and the server would refuse every token all the same."""
    described = [("", settings)]
    described += [(f"[{SECTION_PREFIX}{each.id}]: ", settings.of_app(each)) for each in settings.apps]
    for where, each in described:
        others_sign = each.keys_file or each.secret_file or each.token_issuers
        if each.token_max_age_s and not others_sign and len(each.secret.encode()) < MIN_SECRET_BYTES:
            yield (
                f"{where}token_max_age_s: secret has fewer than {MIN_SECRET_BYTES} bytes, "
                "so no token that it signs is accepted"
            )
        if each.token_issuers and not each.token_max_age_s:
            yield f"{where}token_issuers: token_max_age_s is not set, so no token is accepted"
    if settings.token_audience and not any(own.token_max_age_s for own in settings.of_each_app):
        yield "token_audience: token_max_age_s is not set, so no token is accepted"


def _no_file() -> Layer:
    """Return an empty layer; it warns of a file that may have been meant."""
    is_here = stat.S_ISREG(mode_of(USUAL_FILE))
    return Layer(
        {}, (f"{USUAL_FILE} is here and was not read: name it with -i {USUAL_FILE}",) if is_here else ()
    )


def load(flags: Flags, environ: Mapping[str, str]) -> Loaded:
    """Return the settings of flags, environment and file.

    Raises:
        ConfigError: the file cannot be read, or a value is not allowed.
    """
    reading = read(flags, environ)
    return Loaded(reading.settings(), tuple(reading.warnings))
