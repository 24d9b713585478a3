"""How the client gets to the server: certificates, proxies, and who owns the HTTP client."""

import ssl
from collections.abc import Callable
from os import PathLike, fspath
from pathlib import Path

import httpx

from channelstream_client.log_filter import hide_ids

Verify = ssl.SSLContext | bool | str | PathLike[str]
"""What a server's certificate is checked with: a context, a file or folder of authorities, the usual ones, or nothing."""


def tls_context(url: str, verify: Verify) -> ssl.SSLContext:
    """The context for a server; it is made once, as reading the authorities takes some 30 ms."""
    if isinstance(verify, ssl.SSLContext):
        return verify
    if not url.startswith("https:"):
        return httpx.create_ssl_context(verify=False)  # Never asked, and quickly made.
    if isinstance(verify, bool):
        return httpx.create_ssl_context(verify=verify)
    path = fspath(verify)
    if Path(path).is_dir():
        return ssl.create_default_context(capath=path)
    return ssl.create_default_context(cafile=path)


class Reach:
    """What the streams of one `Listening` are carried by.

    Attributes:
        tls: for servers at https addresses.
        trust_env: whether proxies of the environment are used.
    """

    def __init__(
        self,
        make_tls: Callable[[], ssl.SSLContext],
        *,
        trust_env: bool = True,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        """Create it; nothing is opened yet.

        Args:
            make_tls: called when the first stream opens.
            http: carries SSE and polls, and is left open; None makes one.
        """
        self.trust_env = trust_env
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
        """One client for all streams: making one costs more CPU than many polls."""
        hide_ids()
        if self._http is None:
            self._http = httpx.AsyncClient(verify=self.tls, trust_env=self.trust_env)
        return self._http

    async def close(self) -> None:
        """Close what was opened here."""
        if self._owns_http and self._http is not None:
            await self._http.aclose()
            self._http = None
