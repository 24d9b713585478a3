"""`channelstream sign PATH`: print the headers of a signed request."""

from collections.abc import Mapping, Sequence

from channelstream.cli.settings import settings_of
from channelstream.cli.signing_key import SIGNING_OPTIONS, add_key_flags, signing_key
from channelstream.config.flags import OneLineParser, add_file_flag, add_flags
from channelstream.config.settings import BY_NAME

DESCRIPTION = """\
Print the headers of a signed request, as `curl -H @-` reads them. With --data or --method the whole request
is signed, for one use; without them its path, for a minute. Where the option
request_signing allows one of them only, that is printed. A key always signs the whole request: of one that
has a body, --data must be that body."""
EPILOG = """\
examples:
  channelstream sign /info | curl -H @- http://127.0.0.1:8000/info
  channelstream sign /info --data '{}' | curl -H @- http://127.0.0.1:8000/info -d '{}'
  channelstream sign /info --data '{}' --key web-1 --keys-file keys.json
"""


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print the headers.

    Raises:
        ConfigError: the path does not begin with a slash, or the settings are wrong.
    """
    parser = OneLineParser("channelstream sign", DESCRIPTION, EPILOG)
    parser.add_argument("path", metavar="PATH", help="Path of the request, for example /message.")
    parser.add_argument("--data", metavar="TEXT", help="Its body; then the method is POST, if none is given.")
    parser.add_argument("--method", metavar="METHOD", help="Its method.")
    add_file_flag(parser.add_argument)
    add_key_flags(parser.add_argument)
    add_flags(parser.add_argument, [BY_NAME[name] for name in (*SIGNING_OPTIONS, "request_signing")])
    arguments = parser.parse_strictly(argv)
    if not arguments.path.startswith("/"):
        parser.error(f"PATH: {arguments.path!r} is not a path that begins with a slash")
    settings = settings_of(arguments, environ)
    key = signing_key(settings, arguments, environ)
    signs_path = not key.id and not {"data", "method"} & vars(arguments).keys()
    is_old = signs_path and settings.request_signing == "any"
    data = getattr(arguments, "data", "")
    method = getattr(arguments, "method", "POST" if data else "GET").upper()
    headers = key.signer(is_old=is_old).headers(method, arguments.path, data.encode())
    for name, value in headers.items():
        print(f"{name}: {value}")
    return 0
