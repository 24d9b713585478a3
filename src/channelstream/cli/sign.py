"""`channelstream sign PATH`: print the headers of a signed request."""

from collections.abc import Mapping, Sequence

from channelstream.cli.remote import signed_headers
from channelstream.cli.settings import settings_of
from channelstream.config.flags import OneLineParser, add_file_flag, add_flags
from channelstream.config.settings import BY_NAME

DESCRIPTION = "Print the two headers of a signed request, as `curl -H @-` reads them."
EPILOG = """\
example:
  channelstream sign /info | curl -H @- http://127.0.0.1:8000/info
"""


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print the headers.

    Raises:
        ConfigError: the path does not begin with a slash, or the settings are wrong.
    """
    parser = OneLineParser("channelstream sign", DESCRIPTION, EPILOG)
    parser.add_argument("path", metavar="PATH", help="Path of the request, for example /message.")
    add_file_flag(parser.add_argument)
    add_flags(parser.add_argument, [BY_NAME["secret"]])
    arguments = parser.parse_strictly(argv)
    if not arguments.path.startswith("/"):
        parser.error(f"PATH: {arguments.path!r} is not a path that begins with a slash")
    secret = settings_of(arguments, environ).secret
    for name, value in signed_headers(secret, arguments.path).items():
        print(f"{name}: {value}")
    return 0
