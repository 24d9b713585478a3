"""Network access to the server: certificates, proxies, and the ownership of the HTTP client."""

import ssl
from collections.abc import Callable
from os import PathLike, fspath
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from channelstream_client.log_filter import hide_ids

Verify = ssl.SSLContext | bool | str | PathLike[str]
"""How to verify the certificate: a context, a file or folder of authorities, True (usual authorities) or False (not)."""


def checked_address(url: str) -> str:
    """Return the address of a server in the form that paths are appended to.

    Raises:
        ValueError: it is not an http:// or https:// address.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"{url!r} is not an http:// or https:// address")
    return f"{parts.scheme}:{url.strip().partition(':')[2]}".rstrip("/")


def tls_context(url: str, verify: Verify) -> ssl.SSLContext:
    """Return the TLS context for a server. Callers create it once: reading the authorities takes about 30 ms."""
    if isinstance(verify, ssl.SSLContext):
        return verify
    if httpx.URL(url).scheme != "https":
        return httpx.create_ssl_context(verify=False)  # Never used, and fast to create.
    if isinstance(verify, bool):
        return httpx.create_ssl_context(verify=verify)
    path = fspath(verify)
    if Path(path).is_dir():
        return ssl.create_default_context(capath=path)
    return ssl.create_default_context(cafile=path)


class Reach:
    """TLS context and HTTP client for the streams of one `Listening`.

    Attributes:
        tls: the TLS context, for https addresses.
        trust_env: whether proxies of the environment are used.
        unix_socket: path of the server's unix socket; empty means TCP.
    """

    def __init__(
        self,
        make_tls: Callable[[], ssl.SSLContext],
        *,
        trust_env: bool = True,
        unix_socket: str = "",
        http: httpx.AsyncClient | None = None,
    ) -> None:
        """Create it without opening a connection.

        Args:
            make_tls: called when the first stream opens.
            http: client for SSE and polls, which `close` leaves open; None creates one.
        """
        self.trust_env = trust_env
        self.unix_socket = unix_socket
        self._make_tls = make_tls
        self._tls: ssl.SSLContext | None = None
        self._owns_http = http is None
        self._http = http

    @property
    def tls(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = self._make_tls()
        return self._tls

    @property
    def http(self) -> httpx.AsyncClient:
        """The HTTP client for all streams. Creating one costs more CPU than many polls."""
        hide_ids()
        if self._http is None:
            self._http = self._new_http()
        return self._http

    def _new_http(self) -> httpx.AsyncClient:
        if not self.unix_socket:
            return httpx.AsyncClient(verify=self.tls, trust_env=self.trust_env)
        transport = httpx.AsyncHTTPTransport(verify=self.tls, uds=self.unix_socket, trust_env=self.trust_env)
        return httpx.AsyncClient(transport=transport, trust_env=self.trust_env)

    async def close(self) -> None:
        """Close the HTTP client, unless the caller passed it."""
        if self._owns_http and self._http is not None:
            await self._http.aclose()
            self._http = None
