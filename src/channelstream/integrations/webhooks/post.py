"""Posts to the URLs of receivers, and to no other place of the network.

A name is resolved here and each of its addresses is checked, and the connection goes to the address that was checked: so
neither the name nor a second answer of its resolver leads to a private address (DNS rebinding). No redirect is followed, no
proxy is used, and of an answer only the status and `Retry-After` count.
"""

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from ipaddress import IPv6Address, IPv6Network
from typing import Any

import httpcore

from channelstream.apps.webhooks import Receiver
from channelstream.core.addresses import Networks, read_address
from channelstream.integrations.no_answer import no_address, no_answer
from channelstream.integrations.webhooks.calling import NotAccepted

TIMEOUT_S = 10.0
"""Longest time of a call, in seconds."""
ANSWER_BYTES = 65_536
"""Bytes of an answer that are read, so that its connection can be used again; of a longer one the connection is closed."""
IDLE_S = 30.0
"""How long a connection stays open for the next call, in seconds."""
CONNECT_S = 3.0
"""Longest wait for one of the addresses of a name, before the next one is tried, in seconds."""
_SECONDS = re.compile(rb"[0-9]{1,9}")
_NOT_PUBLIC = tuple(
    map(IPv6Network, ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "fec0::/10"))
)
"""Addresses with an IPv4 address inside, which may be a private one (RFC 4291, 2765, 6052, 8215 and 3056), and those of a
site (RFC 3879). `ipaddress` counts some of them as global."""

logger = logging.getLogger(__name__)


def is_public(text: str) -> bool:
    """Whether an address belongs to the whole internet."""
    address = read_address(text)
    if isinstance(address, IPv6Address) and any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast


def may_be_called(address: str, networks: Networks) -> bool:
    """Whether calls go to an address: to one that is public, or is in these networks."""
    return is_public(address) or networks.has(address)


class _CheckedBackend(httpcore.AnyIOBackend):
    """Opens connections to allowed addresses only."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        # Of its own: a resolver may take long, and what else uses the threads of the loop, such as calls, would wait.
        self._thread = ThreadPoolExecutor(1, "webhooks")

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        allowed = [each for each in await self._resolved(host, port) if may_be_called(each, self._networks)]
        if not allowed:
            raise NotAccepted("its address is not public: webhook_networks may allow it")
        rest = (port, CONNECT_S, local_address, socket_options)
        for address in allowed[:-1]:
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return await super().connect_tcp(address, *rest)
        return await super().connect_tcp(allowed[-1], *rest)

    async def _resolved(self, host: str, port: int) -> list[str]:
        ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._thread, ask)
        except (OSError, UnicodeError) as error:
            raise NotAccepted(no_address(error)) from error
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    def close(self) -> None:
        """End its thread, after the name that it looks up."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _retry_after_s(headers: Iterable[tuple[bytes, bytes]]) -> float:
    """Return the seconds of `Retry-After` (RFC 9110, 10.2.3); 0 if there is none, or it is a date."""
    found = next((value for name, value in headers if name.lower() == b"retry-after"), b"")
    return float(found) if _SECONDS.fullmatch(found) else 0.0


class Poster:
    """Calls one receiver, over connections that it keeps."""

    def __init__(self, receiver: Receiver, trust: ssl.SSLContext) -> None:
        """Create it; it has as many connections as there are calls at the same time.

        Args:
            trust: the certificates that are trusted.
        """
        self._url = receiver.url
        self._backend = _CheckedBackend(Networks(receiver.networks))
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=trust,
            # Not one for each lane: the pool counts a connection for ever whose call was cancelled before it was opened.
            max_connections=None,
            keepalive_expiry=IDLE_S,
            network_backend=self._backend,
        )

    async def post(self, headers: dict[str, str], body: bytes) -> None:
        """Make a call.

        Raises:
            NotAccepted: it was not answered with 2xx, or not in time.
        """
        try:
            async with asyncio.timeout(TIMEOUT_S):
                status, wait_s = await self._post(headers, body)
        except NotAccepted:
            raise
        except TimeoutError as error:
            raise NotAccepted(f"no answer within {TIMEOUT_S:g} s") from error
        except Exception as error:
            # Besides its own errors httpcore raises those of what it uses, such as ssl.SSLError.
            raise NotAccepted(no_answer(error)) from error
        if not 200 <= status < 300:
            raise NotAccepted(f"status {status}", status, wait_s)

    async def _post(self, headers: dict[str, str], body: bytes) -> tuple[int, float]:
        """Return the status of the answer, and the wait that it asks for (`NotAccepted.wait_s`)."""
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        async with self._pool.stream("POST", self._url, headers=sent, content=body) as response:
            size = 0
            async for part in response.aiter_stream():
                size += len(part)
                if size > ANSWER_BYTES:
                    break
            return int(response.status), _retry_after_s(response.headers)

    async def close(self) -> None:
        """Close its connections."""
        await self._pool.aclose()
        self._backend.close()
