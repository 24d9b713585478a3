"""The command line: `channelstream [COMMAND]`, one module for each command.

A command is a function of its arguments and the environment that returns an exit code: 0 when done, 1 when
the work failed, 2 when the command line or the configuration is wrong.
"""

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from channelstream.cli import bench, check_config, listen, make_config, publish, serve, sign, trace
from channelstream.cli.remote import RequestFailed
from channelstream.errors import ConfigError

Command = Callable[[Sequence[str], Mapping[str, str]], int]

COMMANDS: dict[str, Command] = {
    "serve": serve.run,
    "make-config": make_config.run,
    "check-config": check_config.run,
    "sign": sign.run,
    "publish": publish.run,
    "listen": listen.run,
    "trace": trace.run,
    "bench": bench.run,
}

_WORD = re.compile(r"[A-Za-z][A-Za-z_-]*")
"""What looks like a command, and not like the path of an INI file."""

FAILED = 1
BAD_CONFIGURATION = 2
INTERRUPTED = 130
"""128 and the number of SIGINT, as shells report it."""


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run the command the arguments name, or serve.

    Args:
        argv: arguments without the program's name; None means those of this process.
        environ: the environment; None means that of this process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = COMMANDS.get(arguments[0]) if arguments else None
    if command is None:
        return _run(_serve, arguments, environ)
    return _run(command, arguments[1:], environ)


def _serve(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve; a first word that may name neither a command nor a file is refused.

    Raises:
        ConfigError: it does not, or the settings are wrong.
    """
    word = argv[0] if argv else ""
    if _WORD.fullmatch(word) and not Path(word).exists():
        close = get_close_matches(word, COMMANDS, n=1)
        meant = f" (did you mean {close[0]}?)" if close else ""
        raise ConfigError(f"there is no command {word!r}{meant}, nor such a file (see channelstream -h)")
    return serve.run(argv, environ)


def utils_main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """The second generation's `channelstream_utils make_config`; it replaces a file that is there."""
    return _run(make_config.run_old, sys.argv[1:] if argv is None else argv, environ)


def _run(command: Command, argv: Sequence[str], environ: Mapping[str, str] | None) -> int:
    try:
        return command(argv, os.environ if environ is None else environ)
    except ConfigError as error:
        print(f"channelstream: {error}", file=sys.stderr)
        return BAD_CONFIGURATION
    except RequestFailed as error:
        print(f"channelstream: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough; the flush at exit must not complain about it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
