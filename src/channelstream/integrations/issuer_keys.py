"""Reads the public keys of issuers of tokens: from files, and from addresses of the configuration.

What a token names is never an address: at most it makes the server read the keys of a configured issuer again, since a key
that it names is not known. That happens once in `READ_AGAIN_S` at most, whatever clients send. Keys that were read
`MAX_AGE_S` ago are read again while tokens come, so that a key which its issuer has withdrawn is refused. If they cannot
be read, those that were read last stay.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from math import inf
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from channelstream.auth.issuer import Issuer, PublicKeys, SignedBy
from channelstream.auth.public_keys import KEYS_BYTES, read_keys
from channelstream.integrations.no_answer import no_answer
from channelstream.regular_file import CannotRead, read_regular
from channelstream.shielded import result_of

if TYPE_CHECKING:
    import httpx

FETCH_S = 5.0
"""Longest time of a request for keys, in seconds."""
READ_AGAIN_S = 30.0
"""Shortest time between two reads of the keys of one issuer, in seconds."""
MAX_AGE_S = 600.0
"""Age of keys at which they are read again, in seconds."""

logger = logging.getLogger(__name__)


@dataclass
class _Known:
    """The keys of an issuer.

    Attributes:
        source: a path, or an address.
        asked_s: when they were read last, or it was tried, by a steady clock.
        reading: the read that is under way.
    """

    issuer: Issuer
    source: str
    asked_s: float = -inf
    reading: asyncio.Task[bool] | None = None


class IssuerKeys:
    """The keys of all issuers."""

    def __init__(self, sources: Iterable[tuple[Issuer, str]], steady: Callable[[], float]) -> None:
        """Create it; keys that an issuer has already were read just now.

        Args:
            sources: issuers, each with the path or address of its keys.
            steady: returns the seconds of a clock that only goes on.
        """
        self._steady = steady
        self._known = {issuer.name: _Known(issuer, source) for issuer, source in sources}
        for known in self._known.values():
            if known.issuer.keys:
                # A key that is missing may be read at once.
                known.asked_s = steady() - READ_AGAIN_S

    async def read(self, name: str) -> bool:
        """Read the keys of an issuer again, or wait for the read under way; return whether there are new ones."""
        known = self._known[name]
        if known.reading is None and self._age_s(known) < READ_AGAIN_S:
            return False
        return await result_of(self._begin(known))

    def renew(self) -> None:
        """Begin to read keys that are old; those that were never read are read when a token needs one."""
        for known in self._known.values():
            if known.reading is None and MAX_AGE_S <= self._age_s(known) < inf:
                self._begin(known)

    def _age_s(self, known: _Known) -> float:
        return self._steady() - known.asked_s

    def _begin(self, known: _Known) -> asyncio.Task[bool]:
        if known.reading is None:
            known.asked_s = self._steady()
            known.reading = asyncio.get_running_loop().create_task(self._read(known))
        return known.reading

    async def _read(self, known: _Known) -> bool:
        issuer = known.issuer
        try:
            issuer.keys = await keys_at(known.source, issuer.algorithm)
        except (CannotRead, ValueError) as error:
            logger.warning("the keys of the issuer %r cannot be read: %s", issuer.name, error)
            return False
        finally:
            known.reading = None
        return True


async def keys_at(source: str, algorithm: SignedBy) -> PublicKeys:
    """Return the keys of a file or an address.

    Raises:
        CannotRead: it cannot be read.
        ValueError: it has no such keys.
    """
    return read_keys(await _text(source), algorithm)


async def _text(source: str) -> bytes:
    if source.startswith("/"):
        return await asyncio.to_thread(read_file, source)
    try:
        return await _fetch(source)
    except CannotRead:
        raise
    except Exception as error:
        # Besides its own errors httpx raises those of what it uses, such as ExceptionGroup and IDNAError.
        raise CannotRead(no_answer(error)) from error


def read_file(path: str) -> bytes:
    """Return the text of a file with keys.

    Raises:
        CannotRead: it cannot be read, is no regular file, or is too long.
    """
    return read_regular(path, KEYS_BYTES).text


async def _fetch(url: str) -> bytes:
    """Return the text at an address; a redirection is not followed.

    Raises:
        CannotRead: the answer is not 200, or too long. What else is raised means that there is no answer in time.
    """
    # In a thread: the first import, and the certificates of a client, take 0.1 s.
    client = await asyncio.to_thread(_client, is_local=urlsplit(url).scheme == "http")
    async with asyncio.timeout(FETCH_S), client, client.stream("GET", url) as response:
        if response.status_code != HTTPStatus.OK:
            raise CannotRead(f"the answer has status {response.status_code}")
        text = b""
        async for part in response.aiter_raw():
            text += part
            if len(text) > KEYS_BYTES:
                raise CannotRead(f"the answer has more than {KEYS_BYTES} bytes")
        return text


def _client(*, is_local: bool) -> "httpx.AsyncClient":
    import httpx  # Only servers with such issuers need it.

    return httpx.AsyncClient(
        timeout=FETCH_S,
        follow_redirects=False,
        # Proxies and certificates of the environment are the operator's, too, but loopback has no use of a proxy.
        trust_env=not is_local,
        # Uncompressed: a small answer could be a long text, which is in memory before its length is known.
        headers={"accept-encoding": "identity"},
    )
