"""The command line: a flag for every option, with the short flags of the first generation."""

from argparse import (
    SUPPRESS,
    Action,
    ArgumentParser,
    Namespace,
    RawDescriptionHelpFormatter,
)
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from types import MappingProxyType
from typing import NoReturn

from channelstream.config.option import Option
from channelstream.config.settings import BY_NAME, OPTIONS, SECTIONS
from channelstream.config.sources import Given
from channelstream.config.values import NO, YES, AutoSwitch, Switch
from channelstream.errors import ConfigError

_USAGE = "channelstream [FILE.ini] [option ...]"
_HELP_WIDTH = 100
_HELP_COLUMN = 36
_SIMILAR = 0.75
"""Least ratio of `difflib` between a wrong flag and one that an error names: the dashes alone make short flags similar."""
_SWITCHES = frozenset(
    spelling
    for option in OPTIONS
    if isinstance(option.declared.kind, Switch | AutoSwitch)
    for spelling in (option.flag, option.declared.short)
    if spelling
)


@dataclass(frozen=True, slots=True)
class Flags:
    """The values of a command line."""

    file: str | None
    given: Mapping[str, Given]


class HelpFormatter(RawDescriptionHelpFormatter):
    """Shows ``-p, --port N``, where argparse would repeat the placeholder."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=_HELP_COLUMN, width=_HELP_WIDTH)

    def _format_action_invocation(self, action: Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"


class OneLineParser(ArgumentParser):
    """A parser whose errors are a `ConfigError` of one line, without the given values."""

    def __init__(self, prog: str, description: str = "", epilog: str = "", usage: str | None = None) -> None:
        super().__init__(
            prog,
            usage,
            description,
            epilog,
            formatter_class=HelpFormatter,
            argument_default=SUPPRESS,
            add_help=False,
            allow_abbrev=False,
        )
        self.add_argument("-h", "--help", action="help", help="Print this text.")

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (see {self.prog} -h)")

    def parse_strictly(self, argv: Sequence[str]) -> Namespace:
        """Parse a command line that may only have declared arguments.

        Raises:
            ConfigError: an argument is not declared, or one is missing.
        """
        namespace, rest = self.parse_known_args(argv)
        if rest:
            self.refuse(rest[0])
        return namespace

    def refuse(self, argument: str) -> NoReturn:
        """Raise the error for an undeclared argument, without its value, which may be a secret."""
        name = argument.partition("=")[0]
        close = get_close_matches(name, self._option_string_actions, n=1, cutoff=_SIMILAR)
        self.error(f"there is no option {name!r}" + (f" (did you mean {close[0]}?)" if close else ""))


def settings_parser(
    prog: str = "channelstream", description: str = "", epilog: str = "", usage: str = _USAGE
) -> OneLineParser:
    """Return a parser with a flag for every option, in the groups of the table."""
    parser = OneLineParser(prog, description, epilog, usage)
    add_file_flag(parser.add_argument)
    for title in SECTIONS:
        group = parser.add_argument_group(title)
        add_flags(group.add_argument, (option for option in OPTIONS if option.declared.section == title))
    return parser


def add_file_flag(add_argument: Callable[..., Action]) -> None:
    """Add the flag `-i`."""
    add_argument("-i", "--ini", metavar="FILE", help="Read settings from this INI file.")


def add_flags(
    add_argument: Callable[..., Action],
    options: Iterable[Option],
    sentences: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Add a flag for each option; its value is checked later, with those of the other sources.

    Args:
        add_argument: method of a parser or of a group.
        options: the options to add.
        sentences: what options mean for this command, by name, where that is not their own sentence.
    """
    for option in options:
        declared = option.declared
        spellings = [declared.short, option.flag] if declared.short else [option.flag]
        default = f"{option.default_text or 'empty'} {declared.unit}".rstrip()
        add_argument(
            *spellings,
            dest=option.name,
            metavar=declared.kind.metavar,
            help=f"{sentences.get(option.name, declared.sentence)} [{default}]".replace("%", "%%"),
        )


def read_flags(parser: OneLineParser, argv: Sequence[str]) -> Flags:
    """Parse a command line; its file may be given without `-i`, also after a ``-``."""
    return read_arguments(parser, argv)[0]


def read_arguments(parser: OneLineParser, argv: Sequence[str]) -> tuple[Flags, Namespace]:
    """Parse a command line as `read_flags` does; return the options, and all arguments."""
    namespace, rest = parser.parse_known_args(complete_switches(argv))
    unknown = [argument for argument in rest if argument.startswith("-") and argument != "-"]
    if unknown:
        parser.refuse(unknown[0])
    files = [argument for argument in rest if argument != "-"]
    if "ini" in namespace:
        files.insert(0, namespace.ini)
    if len(files) > 1:
        parser.error(f"name one INI file, not {len(files)}")
    return Flags(files[0] if files else None, given_flags(namespace)), namespace


def given_flags(namespace: Namespace) -> dict[str, Given]:
    """Return the options among parsed arguments."""
    return {
        name: Given(text, BY_NAME[name].flag) for name, text in vars(namespace).items() if name in BY_NAME
    }


def complete_switches(argv: Sequence[str]) -> list[str]:
    """Add the value "true" to a switch without one: ``-d file.ini`` and ``-d 1 file.ini`` both work."""
    completed = []
    for argument, following in pairwise([*argv, ""]):
        completed.append(argument)
        if argument in _SWITCHES and following.lower() not in YES | NO | {"auto"}:
            completed.append("true")
    return completed
