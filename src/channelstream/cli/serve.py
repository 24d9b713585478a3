"""`channelstream`: serve until told to stop."""

import logging
from collections.abc import Mapping, Sequence

from channelstream import __version__, logs
from channelstream.config.flags import OneLineParser, read_flags, settings_parser
from channelstream.config.loading import load
from channelstream.config.safety import check_safety

DESCRIPTION = "A push server: a web application posts signed messages, browsers hear them."
USAGE = """
  channelstream [FILE.ini] [option ...]        serve
  channelstream COMMAND [option ...]           do one of these; COMMAND -h says how"""
COMMANDS = """
commands:
  make-config     write an INI file with random secrets
  check-config    say what is wrong with a configuration
  sign PATH       print the headers of a signed request
  publish         post a message to a channel or to users
  listen          print what a subscriber hears
  trace           print to whom each event goes, and what keeps it from others
  bench           measure a server
  serve           serve, as without a command
"""
EPILOG = """\
examples:
  channelstream                                          serve on 127.0.0.1:8000, with the demo
  channelstream make-config && channelstream channelstream.ini
  channelstream -o 0.0.0.0 -p 9000 -s "$SECRET" -a "$ADMIN_SECRET"
  channelstream listen -c news &  channelstream publish -c news '{"text": "hello"}'

Every option is also an INI key and an environment variable: poll_timeout_s,
CHANNELSTREAM_POLL_TIMEOUT_S. Flags beat the environment, which beats the file.
"""

logger = logging.getLogger(__name__)


def parser() -> OneLineParser:
    """The parser of `channelstream` and `channelstream check-config`."""
    made = settings_parser(description=DESCRIPTION + "\n" + COMMANDS, epilog=EPILOG, usage=USAGE)
    made.add_argument("-v", "--version", action="version", version=__version__, help="Print the version.")
    return made


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve with the settings of flags, environment and file.

    Raises:
        ConfigError: they are wrong, or not safe to serve.
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
