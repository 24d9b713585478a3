"""Error texts for a server that does not answer as channelstream does: the cause and the remedy, in one sentence."""

import socket
import ssl
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx

PROBE_TIMEOUT_S = 2.0
_SHOWN_CHARS = 500
"""Most characters of an error answer that are shown."""
_GATEWAY = (502, 504)
"""Statuses of a proxy that gets no answer from its server."""


class Advised(NamedTuple):
    """Why there was no answer, and what to do, if there is more to do than the cause says."""

    cause: str
    advice: str = ""


def no_answer(url: str, where: str, error: Exception, address_flag: str) -> str:
    """Return why there was no answer, and what to do, as `explained` says it."""
    return ": ".join(filter(None, explained(url, where, error, address_flag, "--ssl-certfile")))


def explained(url: str, where: str, error: Exception, address_flag: str, trust_flag: str) -> Advised:
    """Return why there was no answer.

    Args:
        url: the server's address.
        where: the address to show: for a unix socket its path.
        address_flag: the flag of the command that names this address; empty means that it has none.
        trust_flag: the flag of the command that names a certificate to trust.
    """
    for cause in _causes(error):
        match cause:
            case ssl.SSLCertVerificationError():
                return Advised(
                    f"the certificate of {where} is not trusted ({cause.verify_message})",
                    f"pass the certificate of its authority, or its own, with {trust_flag}",
                )
            case ssl.SSLError(reason="WRONG_VERSION_NUMBER" | "RECORD_LAYER_FAILURE" | "HTTP_REQUEST"):
                return Advised(f"{where} does not use TLS", "use an address with http://")
            case ConnectionRefusedError() | FileNotFoundError():
                other = f", or pass its address with {address_flag}" if address_flag else ""
                return Advised(f"nothing listens at {where}", f"start the server{other}")
            case socket.gaierror(errno=socket.EAI_AGAIN):
                return Advised(f"the name {urlsplit(url).hostname!r} cannot be looked up now")
            case socket.gaierror():
                return Advised(f"there is no host {urlsplit(url).hostname!r}", f"correct the address {where}")
            case httpx.TimeoutException():
                reason = "it is overloaded or stuck, or not an HTTP server"
                return Advised(f"{where} does not answer in time: {reason}")
    if isinstance(error, httpx.ConnectError):
        return Advised(f"{where} cannot be reached: {error}")
    if url.startswith("http:") and _speaks_tls(url):
        return Advised(f"{where} uses TLS", "use an address with https://")
    return Advised(f"{where} does not answer with HTTP, so it is not a channelstream server: {error}")


def refused(url: str, path: str, answer: httpx.Response) -> str:
    """Return the text for an error answer; `url` is the server's address."""
    if answer.is_redirect:
        return f"{url} redirects {path} to {answer.headers.get('location', '')!r}: use that address"
    if not _is_json(answer):
        if answer.status_code in _GATEWAY:
            return f"{url} is a proxy whose server does not answer ({answer.status_code}): start the server"
        if answer.status_code == 400 and "HTTPS" in answer.text:
            return f"{url} uses TLS: use an address with https://"
        return (
            f"{url} is not a channelstream server: it answered {path} with {answer.status_code} and no JSON"
        )
    text = " ".join(answer.text.split())[:_SHOWN_CHARS]
    return f"{url}{path} answered {answer.status_code}: {text}"


def not_channelstream(url: str, path: str) -> str:
    """Return the text for an answer that channelstream does not give."""
    return f"{url} is not a channelstream server: its answer to {path} has another form"


def _causes(error: BaseException | None) -> Iterator[Any]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_json(answer: httpx.Response) -> bool:
    try:
        answer.json()
    except (ValueError, RecursionError):
        return False
    return True


def _speaks_tls(url: str) -> bool:
    """Return whether a TLS handshake succeeds. Nothing is sent over it, so the certificate is not verified."""
    parts = urlsplit(url)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((parts.hostname or "", parts.port or 80), PROBE_TIMEOUT_S) as probe,
            context.wrap_socket(probe),
        ):
            return True
    except OSError:
        return False
