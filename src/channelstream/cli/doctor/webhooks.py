"""Checks of webhooks: their secrets and URLs, and whether their receivers can be reached. No call is made."""

import asyncio
import socket
import ssl
from collections.abc import Iterable, Iterator
from itertools import combinations
from urllib.parse import urlsplit

from channelstream.apps.webhooks import Receiver
from channelstream.cli.doctor.finding import Finding, Subject, fault, warning
from channelstream.config.applications import make_apps, settings_by_app
from channelstream.config.networks import is_loopback
from channelstream.config.webhook_values import keys_of
from channelstream.config.webhooks import make_receivers
from channelstream.core.addresses import Networks, read_address
from channelstream.errors import ConfigError
from channelstream.integrations.webhooks.post import is_public, may_be_called

CONNECT_S = 5.0
"""How long a name, a connection and its handshake may take, in seconds."""
DISTINCT_BYTES = 8
"""Different bytes that a random secret of 24 bytes has for certain, and a repeated word has not."""
SAMPLES = frozenset(keys_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"))
"""Secrets of the documentation of Standard Webhooks and of its libraries: they are public."""
_RANDOM = "set it to whsec_ and the base64 of 32 random bytes"
_PORTS = {"http": 80, "https": 443}


def has_webhooks(subject: Subject) -> bool:
    own = subject.settings.of_each_app
    return any(each.webhook_urls or each.pusher_webhook_urls for each in own)


async def options(subject: Subject) -> Iterable[Finding]:
    """Report secrets that can be guessed or are shared, and URLs that are not called, or without TLS."""
    return [*_secrets(subject), *(found for each in _receivers(subject) for found in _url(each))]


def _secrets(subject: Subject) -> Iterator[Finding]:
    known = {app_id: keys_of(own.webhook_secret) for app_id, own in settings_by_app(subject.settings).items()}
    for app_id, keys in known.items():
        if not SAMPLES.isdisjoint(keys):
            yield fault(f"webhook_secret of application {app_id} is that of an example", _RANDOM)
        elif any(len(set(key)) < DISTINCT_BYTES for key in keys):
            yield fault(f"webhook_secret of application {app_id} can be guessed", _RANDOM)
    for one, other in combinations(known, 2):
        if set(known[one]) & set(known[other]):
            yield fault(
                f"the applications {one} and {other} have the same webhook_secret: a receiver of one can sign for the other",
                "give each a secret of its own",
            )


def _receivers(subject: Subject) -> list[Receiver]:
    try:
        return make_receivers(subject.settings, make_apps(subject.settings))
    except ConfigError:
        return []  # The check of options reports it.


def _url(receiver: Receiver) -> Iterator[Finding]:
    parts = urlsplit(receiver.url)
    host = parts.hostname or ""
    if _is_address(host):
        if not may_be_called(host, Networks(receiver.networks)):
            yield _not_allowed(receiver)
        elif parts.scheme == "http" and is_public(host):
            yield _plain(receiver)
    elif parts.scheme == "http" and not is_loopback(host) and not receiver.networks:
        yield _plain(receiver)


def _is_address(host: str) -> bool:
    try:
        read_address(host)
    except ValueError:
        return False
    return True


def _not_allowed(receiver: Receiver) -> Finding:
    return fault(
        f"{receiver.label} is not called: its address is not public", "name its network in webhook_networks"
    )


def _plain(receiver: Receiver) -> Finding:
    return warning(
        f"{receiver.label} has no TLS: webhooks can be read on the way", "write its https:// address"
    )


async def receivers(subject: Subject) -> Iterable[Finding]:
    """Report receivers to which no connection can be opened from here."""
    found = await asyncio.gather(*map(_reached, dict.fromkeys(_receivers(subject))))
    return list(dict.fromkeys(each for each in found if each is not None))


async def _reached(receiver: Receiver) -> Finding | None:
    try:
        async with asyncio.timeout(CONNECT_S):
            return await _connect(receiver)
    except TimeoutError:
        return fault(
            f"{receiver.label} does not answer within {CONNECT_S:g} s", "start it, or correct its URL"
        )


async def _connect(receiver: Receiver) -> Finding | None:
    parts = urlsplit(receiver.url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return fault(f"the name of {receiver.label} has no address here", "correct its URL, or the resolver")
    networks = Networks(receiver.networks)
    addresses = dict.fromkeys(str(address) for *_, (address, *_) in found)
    failure: Finding | None = _not_allowed(receiver)
    for address in addresses:
        if not may_be_called(address, networks):
            continue
        failure = await _open(receiver, address, port)
        if failure is None:
            break
    return failure


async def _open(receiver: Receiver, address: str, port: int) -> Finding | None:
    parts = urlsplit(receiver.url)
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    try:
        _, writer = await asyncio.open_connection(
            address, port, ssl=tls, server_hostname=parts.hostname if tls else None
        )
    except ssl.SSLCertVerificationError as error:
        return fault(
            f"the certificate of {receiver.label} is not trusted: {error.verify_message}", "renew it there"
        )
    except OSError as error:
        return fault(
            f"{receiver.label} cannot be reached: {type(error).__name__}", "start it, or correct its URL"
        )
    writer.close()
    return None
