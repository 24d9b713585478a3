"""Checks of certificates: those of a file, and those that clients get at the public address."""

import asyncio
import socket
import ssl
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import httpx

from channelstream.cli import diagnosis
from channelstream.cli.doctor.finding import NODE_FLAG, TRUST_FLAG, URL_FLAG, Finding, Subject, fault, warning
from channelstream.cli.remote import Server
from channelstream.config.tls import client_context, server_context
from channelstream.errors import ConfigError

HTTPS_PORT = 443
CONNECT_S = 5.0
"""How long each step of a connection and its handshake may take."""
DAY_S = 86_400
SOON_S = 14 * DAY_S
"""Certificates are renewed earlier, so one that ends so soon was not."""
_ADDRESS = "correct the certificate or the address"
_RENEW = "renew it, and start the server again: it reads certificates at its start"


def has_certificate(subject: Subject) -> bool:
    return bool(subject.settings.ssl_certfile)


def is_public_tls(subject: Subject) -> bool:
    """A unix socket is for a proxy, which clients meet first."""
    return subject.entrance.url.startswith("https:") and not subject.entrance.unix_socket


async def of_file(subject: Subject) -> Iterable[Finding]:
    """Report the dates of `ssl_certfile`; whether its key matches is a matter of `safety`."""
    file = subject.settings.ssl_certfile
    try:
        context = server_context(subject.settings)
        found = _own_certificate(context, client_context(file)) if context else None
    except ConfigError:
        return []
    except ssl.SSLCertVerificationError as error:
        return [fault(f"{file}: {error.verify_message}", _RENEW)]
    return list(_dates(found, file, subject.wall())) if found else []


def _own_certificate(server: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, Any]:
    """Return what a client would see, by a handshake in memory: no public function reads a certificate's dates.

    Raises:
        SSLCertVerificationError: its dates are wrong.
    """
    client.check_hostname = False
    client.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(3):
        for end in ends:
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return ends[0].getpeercert() or {}


async def served(subject: Subject) -> Iterable[Finding]:
    """Report a certificate that clients refuse, or will refuse soon."""
    server = subject.entrance
    try:
        certificate = await asyncio.to_thread(_certificate_of, server)
    except ssl.SSLCertVerificationError as error:
        advice = "renew it, or serve its whole chain; name an authority of your own with --trust"
        return [fault(f"clients refuse the certificate of {server.where}: {error.verify_message}", advice)]
    except ConfigError as error:
        return [fault(str(error), _ADDRESS)]
    except OSError as error:
        flag = URL_FLAG if subject.public else NODE_FLAG
        found = diagnosis.explained(server.url, server.where, error, flag, TRUST_FLAG)
        return [fault(found.cause, found.advice or _ADDRESS)]
    return list(_dates(certificate, server.where, subject.wall()))


def _certificate_of(server: Server) -> dict[str, Any]:
    """Return the certificate that a client gets.

    Raises:
        ConfigError: the certificate to trust cannot be used.
        OSError: there is no connection, or the certificate is not trusted.
    """
    url, context = httpx.URL(server.url), client_context(server.certfile)
    with (
        socket.create_connection((url.host, url.port or HTTPS_PORT), CONNECT_S) as connection,
        context.wrap_socket(connection, server_hostname=url.host) as client,
    ):
        return client.getpeercert() or {}


def _dates(certificate: dict[str, Any], where: str, now: float) -> Iterator[Finding]:
    begin, end = (ssl.cert_time_to_seconds(certificate[key]) for key in ("notBefore", "notAfter"))
    # Certificates that live for days only are renewed in their last third.
    if end - now < min(SOON_S, (end - begin) / 3):
        yield warning(f"the certificate of {where} expires in {max(0.0, end - now) / DAY_S:.1f} days", _RENEW)
