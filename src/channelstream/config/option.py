"""The declaration of an option, and the sections of the table."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from channelstream.config.values import Kind, text_of

T = TypeVar("T")

_KEY = "option"


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the table: options under one heading."""

    title: str

    def option(
        self,
        default: T,
        kind: Kind[T],
        sentence: str,
        *,
        unit: str = "",
        short: str = "",
        alias: str = "",
        secret: bool = False,
        per_app: bool = False,
        identifies: bool = False,
    ) -> T:
        """Declare an option as the default of a dataclass attribute.

        Args:
            default: its value if no source sets it.
            kind: parses its values.
            sentence: its effect, for a new user.
            unit: unit of its number, in the plural.
            short: its one-letter flag from the first generation.
            alias: another name for the file and the environment.
            secret: its value is never logged or shown.
            per_app: each application may set it for itself.
            identifies: it says who acts for an application, or where it is sent what happens there: no application has
                another one's.
        """
        declared = Declared(self.title, kind, sentence, unit, short, alias, secret, per_app, identifies)
        return field(default=default, repr=not secret, metadata={_KEY: declared})


@dataclass(frozen=True, slots=True)
class Declared:
    """The declaration of an option, without its name, type and default."""

    section: str
    kind: Kind[Any]
    sentence: str
    unit: str
    short: str
    alias: str
    secret: bool
    per_app: bool
    identifies: bool

    @property
    def is_never_shared(self) -> bool:
        """Whether an application that does not set it has an empty one, and not that of the default application."""
        return self.per_app and (self.secret or self.identifies)


@dataclass(frozen=True, slots=True)
class Option:
    """An option with its name and default."""

    name: str
    default: Any
    declared: Declared

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def default_text(self) -> str:
        return text_of(self.default)

    @property
    def allowed(self) -> str:
        unit = self.declared.unit
        return f"{self.declared.kind.allowed} {unit}" if unit else self.declared.kind.allowed


def options_of(settings: type) -> Iterator[Option]:
    """Yield the options that a settings class declares, in order."""
    for entry in fields(settings):
        if _KEY in entry.metadata:
            yield Option(entry.name, entry.default, entry.metadata[_KEY])
