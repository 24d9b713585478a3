"""Renders the INI file of `make-config`: every option with its effect, unset ones as comments."""

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from textwrap import wrap
from types import MappingProxyType
from typing import Any

from channelstream.config.app_names import SECTION_PREFIX
from channelstream.config.option import Option
from channelstream.config.settings import BY_NAME, NEVER_SHARED, OPTIONS, PER_APP, SECTIONS
from channelstream.config.sources import SECTION, suggest
from channelstream.errors import ConfigError

_SECRET_BYTES = 32
"""256 bits, the size of the strongest hash of a signature."""
NOT_DRAWN = {"admin_reader_secret", "pusher_secret", "webhook_secret"}
"""Secrets that a new file does not set: without one, nobody has the access that it would give."""


def _listed(names: Iterable[str]) -> list[str]:
    return wrap(", ".join(names) + ".", 110, initial_indent="; ", subsequent_indent="; ")


_APPS = (
    ";",
    "; An application with names and secrets of its own is served below /app/ID (docs/applications.md).",
    "; Its section may set:",
    *_listed(PER_APP),
    "; What it does not set is as above, except these, which are empty:",
    *_listed(NEVER_SHARED),
    ";",
    ";[app:shop]",
    ";secret =",
)


def random_secrets() -> dict[str, str]:
    """Return a new value for every secret option but those of `NOT_DRAWN`, by name."""
    secret = (option.name for option in OPTIONS if option.declared.secret)
    return {name: random_secret() for name in secret if name not in NOT_DRAWN}


def random_secret() -> str:
    """Return a new secret. It begins with no hyphen, as a flag does: it may be an argument of a command."""
    return secrets.token_hex(_SECRET_BYTES)


def texts_of_json(document: str) -> dict[str, str]:
    """Return the option texts of a JSON object of names and values; null means unset.

    Raises:
        ConfigError: it is not a JSON object, a name is unknown, or a value is neither a scalar nor a list of texts.
    """
    try:
        values = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--json: not a JSON document: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError("--json: not a JSON object of option names and values")
    return dict(_text_of(name, value) for name, value in values.items() if value is not None)


def _text_of(name: str, value: Any) -> tuple[str, str]:
    if name not in BY_NAME:
        raise ConfigError(f"--json: there is no option {name!r}{suggest(name)}")
    option = BY_NAME[name]
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return option.name, ", ".join(value)
    if isinstance(value, str | int | float):
        return option.name, str(value)
    raise ConfigError(f"--json: {name}: a {type(value).__name__} of that shape is not {option.allowed}")


def render_ini(texts: Mapping[str, str], apps: Mapping[str, Mapping[str, str]] = MappingProxyType({})) -> str:
    """Return an INI file that sets these options, and explains the others.

    Args:
        texts: option values by name, as `Kind.show` writes them.
        apps: those of further applications, by id.
    """
    lines = [
        "; Settings of channelstream. A line with a leading semicolon is a comment and shows the default.",
        f"[{SECTION}]",
    ]
    for title in SECTIONS:
        lines += ["", f"; ---- {title} ----"]
        for option in OPTIONS:
            if option.declared.section == title:
                lines += _entry(option, texts.get(option.name))
    lines += ["", "; ---- Further applications ----", *_APPS]
    for app_id, values in apps.items():
        lines += ["", f"[{SECTION_PREFIX}{app_id}]", *(f"{name} = {text}" for name, text in values.items())]
    return "\n".join(lines) + "\n"


def _entry(option: Option, text: str | None) -> Iterator[str]:
    yield ""
    yield f"; {option.declared.sentence}"
    yield f"; Allowed: {option.allowed}."
    if text is None:
        yield f"; {option.name} = {option.default_text}".rstrip()
    else:
        yield f"{option.name} = {text}"
