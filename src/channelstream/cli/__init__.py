"""The command line: `channelstream [COMMAND]`, one module for each command.

A command is a function of its arguments and the environment, and returns an exit code (docs/options.md#exit-codes):
0 for success, 1 if the work failed, 2 if what the command line or an option says cannot be used (`ConfigError`).
Only the module of the command that runs is imported: a server starts without the HTTP library of the clients and
without the load generator.
"""

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module

from channelstream.cli import standard_files, termination
from channelstream.cli.terminal import say
from channelstream.errors import ConfigError, RequestFailed, StdoutFailed
from channelstream.regular_file import mode_of

Command = Callable[[Sequence[str], Mapping[str, str]], int]

COMMANDS = {
    "serve": "serve",
    "make-config": "make_config",
    "check-config": "doctor.check_config",
    "doctor": "doctor.command",
    "upgrade": "upgrade",
    "keys": "keys",
    "sign": "sign",
    "publish": "publish",
    "listen": "listen",
    "trace": "trace",
    "webhooks": "webhooks",
    "bench": "bench",
}
"""The module of each command; its function `run` is the command."""

_WORD = re.compile(r"[A-Za-z][A-Za-z_-]*")
"""Matches a word that looks like a command, not like the path of an INI file."""

FAILED = 1
BAD_CONFIGURATION = 2
INTERRUPTED = 130
"""128 plus the number of SIGINT, as shells report it."""


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run the command that the arguments name; without one, serve.

    Args:
        argv: arguments without the program's name; None means the arguments of this process.
        environ: the environment; None means the environment of this process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in COMMANDS:
        return _run(_command(COMMANDS[arguments[0]]), arguments[1:], environ)
    return _run(_serve, arguments, environ)


def _command(module: str, function: str = "run") -> Command:
    """Return the function of a command, whose module is imported when it runs: Ctrl-C may come meanwhile."""

    def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
        command: Command = getattr(import_module(f"channelstream.cli.{module}"), function)
        return command(argv, environ)

    return run


def _serve(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve.

    Raises:
        ConfigError: the first word is neither a command nor a file, or the settings are wrong.
    """
    word = argv[0] if argv else ""
    if _WORD.fullmatch(word) and not mode_of(word):
        close = get_close_matches(word, COMMANDS, n=1)
        meant = f" (did you mean {close[0]}?)" if close else ""
        raise ConfigError(f"there is no command and no file {word!r}{meant}; see channelstream -h")
    return _command("serve")(argv, environ)


def utils_main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run `channelstream_utils make_config`, the command of 0.7. It replaces an existing file."""
    return _run(_command("make_config", "run_old"), sys.argv[1:] if argv is None else argv, environ)


def _run(command: Command, argv: Sequence[str], environ: Mapping[str, str] | None) -> int:
    termination.let_sigterm_end_the_first()
    standard_files.open_closed_ones()
    standard_files.prepare_stdout()
    standard_files.prepare_stderr()
    code = 0
    try:
        try:
            code = _ended(command, argv, os.environ if environ is None else environ)
        finally:
            sys.stdout.flush()
    except StdoutFailed as error:
        standard_files.discard_stdout()
        if not error.is_unread:
            say(str(error))
            return FAILED
    return code


def _ended(command: Command, argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run a command, and return its exit code; an error that its user can correct is one line."""
    try:
        return command(argv, environ)
    except ConfigError as error:
        say(str(error))
        return BAD_CONFIGURATION
    except RequestFailed as error:
        say(str(error))
        return FAILED
    except UnicodeEncodeError as error:
        # stdout and stderr escape what they lack, so it was to be sent: an argument in another encoding, or half of a
        # character in JSON; or a header, which is ASCII.
        character, encoding = error.object[error.start], error.encoding.upper()
        say(f"{character!r} is no character of {encoding}")
        return BAD_CONFIGURATION
    except KeyboardInterrupt:
        return INTERRUPTED
