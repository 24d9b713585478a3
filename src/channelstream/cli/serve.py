"""`channelstream`: run the server until a signal stops it."""

import logging
from collections.abc import Mapping, Sequence

from channelstream import __version__, logs
from channelstream.config.flags import OneLineParser, read_flags, settings_parser
from channelstream.config.loading import load
from channelstream.config.safety import check_safety

DESCRIPTION = "A push server: web applications publish signed messages, browsers receive them."
USAGE = """
  channelstream [FILE.ini] [option ...]        serve
  channelstream COMMAND [option ...]           run a command; COMMAND -h shows its options"""
COMMANDS = """
commands:
  make-config     write an INI file with random secrets
  check-config    report problems of a configuration
  doctor          examine a configuration and a running service
  sign PATH       print the headers of a signed request
  publish         publish a message to a channel or to users
  listen          subscribe and print events
  trace           print who receives each event, and why others do not
  bench           measure a server
  serve           run the server, as without a command
"""
EPILOG = """\
examples:
  channelstream                                          serve on 127.0.0.1:8000, with the demo
  channelstream make-config && channelstream channelstream.ini
  channelstream -o 0.0.0.0 -p 9000 -s "$SECRET" -a "$ADMIN_SECRET"
  channelstream listen -c news &  channelstream publish -c news '{"text": "hello"}'

Every option is also an INI key and an environment variable: poll_timeout_s,
CHANNELSTREAM_POLL_TIMEOUT_S. Flags override the environment, which overrides the file.
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
    loaded = load(read_flags(parser(), argv), environ)
    check_safety(loaded.settings)
    logs.configure(loaded.settings)
    for warning in loaded.warnings:
        logger.warning("%s", warning)
    if loaded.settings.workers > 1:
        from channelstream.supervisor import supervise

        return supervise(loaded.settings)
    from channelstream.server import serve

    return serve(loaded.settings)
