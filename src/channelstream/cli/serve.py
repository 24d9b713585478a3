"""`channelstream`: run the server until a signal stops it."""

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence

from channelstream import __version__, early_signals, logs
from channelstream.cli import FAILED
from channelstream.config import weak_secrets
from channelstream.config.flags import OneLineParser, read_flags, settings_parser
from channelstream.config.loading import load
from channelstream.config.safety import check_safety
from channelstream.errors import ConfigError
from channelstream.supervisor import VARIABLE
from channelstream.upgrade.line import Line
from channelstream.upgrade.successor import take_name
from channelstream.upgrade.taking import TakeOver

DESCRIPTION = "A push server: web applications publish signed messages, browsers receive them."
USAGE = """
  channelstream [FILE.ini] [option ...]        serve
  channelstream COMMAND [option ...]           run a command; COMMAND -h shows its options"""
COMMANDS = """
commands:
  make-config     write an INI file with random secrets
  check-config    report problems of a configuration
  doctor          examine a configuration and a running service
  keys            make, list and revoke keys of applications
  sign PATH       print the headers of a signed request
  publish         publish a message to a channel or to users
  listen          subscribe and print events
  trace           print who receives each event, and why others do not
  webhooks listen receive webhooks on this machine, verify and print them
  bench           measure a server
  upgrade         replace a running server by the installed version, without a break
  serve           run the server, as without a command
"""
EPILOG = """\
examples:
  channelstream                                          serve on 127.0.0.1:8000, with the demo
  channelstream make-config && channelstream channelstream.ini
  channelstream -o 0.0.0.0 -p 9000 -s "$SECRET" -a "$ADMIN_SECRET"
  channelstream listen -c news &  channelstream publish -c news '{"text": "hello"}'

Further applications are sections [app:ID] of the file (docs/options.md).
Every option is also an INI key and an environment variable: poll_timeout_s,
CHANNELSTREAM_POLL_TIMEOUT_S. Flags override the environment, which overrides the file.
Exit codes: 1 if the work failed, 2 if what the command line or an option says cannot be used.
"""

logger = logging.getLogger(__name__)


def parser() -> OneLineParser:
    """Return the parser of `channelstream` without a command."""
    made = settings_parser(description=DESCRIPTION + "\n" + COMMANDS, epilog=EPILOG, usage=USAGE)
    made.add_argument("-v", "--version", action="version", version=__version__, help="Print the version.")
    return made


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the server with the settings of flags, environment and file.

    Raises:
        ConfigError: the settings are wrong or unsafe.
    """
    early_signals.hold()
    line = Line.inherited(os.environ)
    if line is not None:
        take_name(os.getppid())
    try:
        return _serve(argv, environ, line)
    except ConfigError as error:
        if line is not None and asyncio.run(TakeOver(line).refuse(str(error))):
            return FAILED
        raise
    finally:
        early_signals.let_go()


def _serve(argv: Sequence[str], environ: Mapping[str, str], line: Line | None) -> int:
    """Run the server.

    Args:
        line: leads to the process whose work this one takes over.
    """
    loaded = load(read_flags(parser(), argv), environ)
    check_safety(loaded.settings)
    logs.configure(loaded.settings)
    for warning in (*loaded.warnings, *weak_secrets.warnings(loaded.settings)):
        logger.warning("%s", warning)
    if loaded.settings.workers > 1 or VARIABLE in os.environ:
        from channelstream.supervisor.starting import supervise
        from channelstream.supervisor.worker import take_over_worker

        return supervise(loaded.settings) if line is None else take_over_worker(loaded.settings, line)
    from channelstream.server import serve, take_over

    return serve(loaded.settings) if line is None else take_over(loaded.settings, line)
