"""Calls of a running server by the client commands: its address, signed requests, error texts."""

import ssl
from argparse import Namespace
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import httpx

from channelstream.apps.keys import DEFAULT
from channelstream.cli import diagnosis
from channelstream.cli.settings import ADDRESS, settings_of
from channelstream.cli.signing import Signatures
from channelstream.cli.signing_key import SigningKey, add_key_flags, signing_key
from channelstream.config import Settings
from channelstream.config.flags import OneLineParser, add_file_flag, add_flags
from channelstream.config.settings import BY_NAME
from channelstream.config.tls import client_context
from channelstream.errors import ConfigError, RequestFailed

REQUEST_TIMEOUT_S = 10.0
_OPTIONS = {
    "secret": "The secret of the server, with which calls are signed.",
    "secret_file": "Path of the file with that secret in its first line.",
    "keys_file": "Path of the file with the keys of the server, for --key.",
    "request_signing": "The form of signatures: old for servers before 1.0, else the new one.",
    **ADDRESS,
}
"""What the settings mean for a command that calls a server."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Server:
    """Address of a server, and what signs calls of it.

    Attributes:
        url: its address, without a slash at the end.
        key: what signs calls.
        unix_socket: path of its unix socket; empty means TCP.
        certfile: certificate to trust besides those of the system; empty means none.
        address_flag: the flag of the command that names the address; empty means that it has none.
    """

    url: str
    key: SigningKey
    unix_socket: str = ""
    certfile: str = ""
    address_flag: str = "--url"

    @property
    def signatures(self) -> Signatures:
        """Signs requests to it."""
        return Signatures(self.url, self.key.signer())

    def tls(self) -> ssl.SSLContext | None:
        """Return the TLS context, or None if the address is not https."""
        if httpx.URL(self.url).scheme != "https":
            return None
        return client_context(self.certfile)

    def client(self) -> httpx.Client:
        """Return a client for unsigned requests. It ignores proxies of the environment: loopback is the usual case."""
        # Without TLS, to which no redirect leads, no authorities are loaded: that takes longer than the request.
        transport = httpx.HTTPTransport(
            verify=self.tls() or False, uds=self.unix_socket or None, trust_env=False
        )
        return httpx.Client(
            base_url=self.url, transport=transport, timeout=REQUEST_TIMEOUT_S, trust_env=False
        )

    def post(self, path: str, body: object, wanted: type[T], *keys: str) -> T:
        """Send a signed POST and return the answer's JSON; see `_ask`."""
        return self._checked(path, self._ask("POST", path, json=body), wanted, keys)

    def get(self, path: str, query: Mapping[str, str], wanted: type[T], *keys: str) -> T:
        """Send a signed GET and return the answer's JSON; see `_ask`."""
        return self._checked(path, self._ask("GET", path, params=query), wanted, keys)

    @property
    def where(self) -> str:
        """The address for messages to the user."""
        return f"unix:{self.unix_socket}" if self.unix_socket else self.url

    def _ask(self, method: str, path: str, **parts: Any) -> Any:
        """Send a signed request and return the answer's JSON.

        Raises:
            ConfigError: the certificate to trust cannot be used.
            RequestFailed: the server cannot be reached, is not channelstream, or answers with an error.
        """
        try:
            with self.client() as client:
                answer = client.request(method, path, auth=self.signatures, **parts)
        except (httpx.HTTPError, OSError) as error:
            raise RequestFailed(
                diagnosis.no_answer(self.url, self.where, error, self.address_flag)
            ) from error
        if not answer.is_success:
            raise RequestFailed(diagnosis.refused(self.where, path, answer), answer.status_code)
        try:
            return answer.json()
        except (ValueError, RecursionError) as error:
            raise RequestFailed(diagnosis.not_channelstream(self.where, path)) from error

    def _checked(self, path: str, answer: Any, wanted: type[T], keys: Collection[str]) -> T:
        """Return the answer if it has this type and these keys.

        Raises:
            RequestFailed: it has not, so the server is not channelstream.
        """
        if not isinstance(answer, wanted) or not all(key in cast("Collection[str]", answer) for key in keys):
            raise RequestFailed(diagnosis.not_channelstream(self.where, path))
        return answer


def add_server_flags(parser: OneLineParser) -> None:
    """Add the flags for the server's address and secret."""
    parser.add_argument(
        "--url", help="Address of the server, such as https://push.example.com [that of the settings]."
    )
    add_key_flags(parser.add_argument)
    group = parser.add_argument_group("Settings of the server")
    add_file_flag(group.add_argument)
    add_flags(group.add_argument, [BY_NAME[name] for name in _OPTIONS], _OPTIONS)
    group.add_argument(
        "--ssl-certfile",
        metavar="FILE",
        help="A certificate to trust: that of an authority, or the server's own.",
    )


def server_of(arguments: Namespace, environ: Mapping[str, str]) -> Server:
    """Return the server at `--url`, or else at the address of the settings.

    Raises:
        ConfigError: the address or the settings are wrong.
    """
    settings = settings_of(arguments, environ)
    url, unix_socket = url_of(settings), settings.unix_socket
    if "url" in arguments:
        url, unix_socket = checked_url(arguments.url), ""
    key = signing_key(settings, arguments, environ)
    if key.app_id != DEFAULT:
        url += f"/app/{key.app_id}"
    return Server(url, key, unix_socket, settings.ssl_certfile)


def checked_url(text: str, flag: str = "--url") -> str:
    """Return the address of a server, with its scheme in lower case and no slash at the end.

    Its path is a prefix that a proxy strips. The flag is named in errors.

    Raises:
        ConfigError: it is not an http or https address, or names a user, whose password no output must have.
    """
    fault = _fault_of_url(text)
    # Behind an `@` that is misplaced there may be a password as well.
    if "@" in (text if fault is not None else text.partition("://")[2].partition("/")[0]):
        raise ConfigError(f"{flag}: leave out the user and the password: calls are signed")
    if fault is not None:
        raise ConfigError(f"{flag}: {text!r} is not an http:// or https:// address{fault}")
    scheme, rest = text.split(":", 1)
    return f"{scheme.lower()}:{rest}".rstrip("/")


def _fault_of_url(text: str) -> str | None:
    """Return what is wrong with the address of a server, for the end of a sentence; None if nothing is."""
    try:
        url = httpx.URL(text)
        urlsplit(text)  # It refuses brackets that are not closed.
    except (httpx.InvalidURL, ValueError) as error:
        return f": {error}"
    return None if url.scheme in {"http", "https"} and url.host else ""


def url_of(settings: Settings) -> str:
    """Return the address at which this machine reaches a server with these settings."""
    scheme = "https" if settings.ssl_certfile else "http"
    host = "127.0.0.1" if settings.unix_socket else _reachable(settings.host)
    return f"{scheme}://{host}:{settings.port}"


def _reachable(host: str) -> str:
    """Return the host to connect to: loopback if the server listens on all addresses."""
    if not host:
        return "127.0.0.1"
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return f"[{address}]" if address.version == 6 else host
