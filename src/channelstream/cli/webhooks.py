"""`channelstream webhooks listen`: a receiver of webhooks for development, which verifies and prints them."""

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from channelstream import logs
from channelstream.cli.settings import settings_of
from channelstream.cli.terminal import printable
from channelstream.cli.termination import as_ctrl_c
from channelstream.config.flags import OneLineParser, add_file_flag, add_flags
from channelstream.config.secret_file import pusher_secrets_of
from channelstream.config.settings import BY_NAME, Settings
from channelstream.errors import ConfigError, StdoutFailed
from channelstream_client import BadWebhook, Webhook, verify_pusher_webhook, verify_webhook

DESCRIPTION = """\
Receive webhooks on this machine, verify them, and print what they report. The secrets are those of the
server and its applications: give it the same configuration file, or the options here. Ctrl-C stops it."""
EPILOG = """\
examples:
  channelstream webhooks listen -i channelstream.ini
  channelstream webhooks listen --port 9000 --fail

The server needs the address, and leave to call it although it is not public:
  webhook_urls = http://127.0.0.1:8010/
  webhook_networks = 127.0.0.1
"""
OPTIONS = ("webhook_secret", "pusher_key", "pusher_secret", "pusher_secret_file")
"""The options with the keys and secrets of the default application."""
PORT = 8010
BODY_BYTES = 4 << 20
"""Longest body that is read."""
READ_S = 10.0
"""Longest wait for a part of a request."""


class Secrets(NamedTuple):
    """What verifies the webhooks of all applications.

    Attributes:
        standard: the secrets of Standard Webhooks.
        pusher: those of Pusher's format, by their keys.
    """

    standard: tuple[str, ...]
    pusher: Mapping[str, str]

    @classmethod
    def of(cls, settings: Settings) -> "Secrets":
        every = settings.of_each_app
        standard = (secret for own in every for secret in own.webhook_secret.split())
        # Calls in Pusher's format have one signature, with the newest of several.
        of_pusher = {own.pusher_key: pusher_secrets_of(own) for own in every if own.pusher_key}
        pusher = {key: secrets[0] for key, secrets in of_pusher.items() if secrets}
        return cls(tuple(standard), pusher)

    def verified(self, headers: Mapping[str, str], body: bytes) -> Webhook:
        """Return what a webhook of either format reports.

        Raises:
            BadWebhook: its signature is wrong, or there is no secret for it.
        """
        if "x-pusher-signature" in headers:
            key = headers.get("x-pusher-key", "")
            if key not in self.pusher:
                raise BadWebhook("it has Pusher's format: give its pusher_key and pusher_secret to verify it")
            return verify_pusher_webhook(headers, body, key, self.pusher[key])
        if not self.standard:
            raise BadWebhook("it has the format of Standard Webhooks: give webhook_secret to verify it")
        return verify_webhook(headers, body, self.standard)


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Receive webhooks until Ctrl-C or SIGTERM.

    Raises:
        ConfigError: the arguments or the settings are wrong, or the port is taken.
    """
    parser = OneLineParser("channelstream webhooks", DESCRIPTION, EPILOG)
    parser.add_argument("action", metavar="listen", choices=("listen",), help="What to do.")
    # Not as `host` and `port`, which are options of the server.
    parser.add_argument(
        "--host", dest="at", default="127.0.0.1", metavar="HOST", help="Where to listen [127.0.0.1]."
    )
    parser.add_argument(
        "--port", dest="at_port", default=str(PORT), metavar="PORT", help=f"Its port [{PORT}]."
    )
    parser.add_argument(
        "--fail", action="store_true", default=False, help="Answer 503, so that the server repeats its calls."
    )
    add_file_flag(parser.add_argument)
    add_flags(parser.add_argument, [BY_NAME[name] for name in OPTIONS])
    arguments = parser.parse_strictly(argv)
    secrets = Secrets.of(settings_of(arguments, environ))
    status = HTTPStatus.SERVICE_UNAVAILABLE if arguments.fail else HTTPStatus.NO_CONTENT
    address = (arguments.at, _port(arguments.at_port))
    try:
        server = _Listener(address, secrets, status)
    except OSError as error:
        where = f"{arguments.at}:{arguments.at_port}"
        raise ConfigError(
            f"cannot listen on {where}: {error.strerror}; name another address with --host or --port"
        ) from error
    with server:
        host, port = server.server_address[:2]
        print(f"listening on http://{host!s}:{port}/", file=sys.stderr, flush=True)
        with as_ctrl_c(), suppress(KeyboardInterrupt):
            server.serve_forever()
        if server.failure is not None:
            raise server.failure
    return 0


def _port(text: str) -> int:
    kind = BY_NAME["port"].declared.kind
    try:
        return int(kind.parse(text))
    except ValueError as error:
        raise ConfigError(f"--port: {text!r} is not {kind.allowed}") from error


class _Listener(ThreadingHTTPServer):
    """Answers every POST with one status if it is a webhook, until that cannot be printed.

    Attributes:
        failure: why it can no longer be printed.
    """

    daemon_threads = True
    failure: StdoutFailed | None = None

    def __init__(self, address: tuple[str, int], secrets: Secrets, status: HTTPStatus) -> None:
        self.secrets = secrets
        self.status = status
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing about a caller that has gone; stop where nothing can be printed."""
        error = sys.exception()
        if isinstance(error, StdoutFailed):
            self.failure = error
            self.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: _Listener
    timeout = READ_S
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = self.headers.get("content-length", "")
        if not (length.isdecimal() and len(length) < 10 and int(length) <= BODY_BYTES):
            self.close_connection = True
            self._answer(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, ["refused: its length is not known, or too long"]
            )
            return
        body = self.rfile.read(int(length))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            webhook = self.server.secrets.verified(headers, body)
        except BadWebhook as error:
            self._answer(HTTPStatus.UNAUTHORIZED, [f"refused: {error}"])
        else:
            self._answer(self.server.status, lines(webhook, time.time()))

    def _answer(self, status: HTTPStatus, printed: Iterable[str]) -> None:
        # First: what was answered well is printed, also if the program ends right then. In one piece: calls have threads.
        print("\n".join(printed) + "\n", end="", flush=True)
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing of its own."""


def lines(webhook: Webhook, at_s: float) -> Iterator[str]:
    """Yield what a webhook reports, one line for each event.

    Args:
        at_s: when it has come: only one of the formats says when it was sent.
    """
    at = datetime.fromtimestamp(at_s, UTC).strftime("%H:%M:%S")
    source = f"standard {webhook.id}" if webhook.id else "pusher"
    yield f"{at} {printable(source)}: {logs.counted(len(webhook.events), 'event')}"
    for event in webhook.events:
        kind = event.get("type", event.get("name", ""))
        known = [
            f"{name}={value!r}"
            for name, value in event.items()
            if name not in ("type", "name", "id", "timestamp")
        ]
        yield " ".join([f"    {printable(str(kind))}", *known])
