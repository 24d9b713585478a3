"""`channelstream publish`: publish one message."""

import json
import sys
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from channelstream.cli.remote import add_server_flags, server_of
from channelstream.config.flags import OneLineParser
from channelstream.errors import ConfigError

DESCRIPTION = "Publish a message to a channel, to users, or to users of a channel; print the server's answer."
EPILOG = """\
examples:
  channelstream publish -c news '{"text": "hello"}'
  channelstream publish --to alice --to bob "lunch?"
  channelstream publish -c news --to alice '{"text": "only alice reads this in the channel"}'
"""
NOT_JSON = (
    "channelstream: MESSAGE is sent as text: it starts like JSON but is not valid JSON"
    " (JSON needs double quotes around names and strings)"
)
DEFAULT_USER = "channelstream-cli"


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Publish the message.

    Raises:
        ConfigError: it has no recipient, or the settings are wrong.
        RequestFailed: the server refused it or cannot be reached.
    """
    parser = _parser()
    arguments = parser.parse_strictly(argv)
    if not arguments.channel and not arguments.to:
        parser.error("a message needs -c CHANNEL or --to USER")
    message = {
        "user": arguments.user,
        "channel": arguments.channel,
        "pm_users": arguments.to,
        "message": payload(arguments.message),
    }
    if looks_like_json(arguments.message):
        print(NOT_JSON, file=sys.stderr)
    answer = server_of(arguments, environ).post("/message", [message], list)
    print(json.dumps(answer))
    return 0


def _parser() -> OneLineParser:
    parser = OneLineParser("channelstream publish", DESCRIPTION, EPILOG)
    parser.add_argument("message", metavar="MESSAGE", help="JSON; anything else is sent as text.")
    parser.add_argument("-c", "--channel", metavar="CHANNEL", default=None, help="The channel to publish to.")
    parser.add_argument(
        "--to",
        metavar="USER",
        action="append",
        default=[],
        help="Only this user receives it; may be repeated. Without -c it is a private message.",
    )
    parser.add_argument(
        "-u", "--user", metavar="USER", default=DEFAULT_USER, help=f"The user who sends it [{DEFAULT_USER}]."
    )
    add_server_flags(parser)
    return parser


def payload(text: str) -> Any:
    """Return the value of a JSON text, or the text itself if it is not JSON.

    Raises:
        ConfigError: no server accepts it.
    """
    try:
        return json.loads(text, parse_float=_finite, parse_constant=_refuse)
    except ValueError:
        return text
    except RecursionError as error:
        raise ConfigError("MESSAGE: its lists and objects are nested too deep") from error


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ConfigError(f"MESSAGE: {text} is out of range")
    return value


def _refuse(name: str) -> None:
    """Refuse NaN and Infinity, which Python reads, and which are not JSON."""
    raise ValueError(name)


def looks_like_json(text: str) -> bool:
    """Return whether a text is not JSON, but was probably meant as JSON."""
    return text.lstrip()[:1] in ("{", "[") and payload(text) is text
