"""Why a server did not answer as a channelstream does, and what to do about it, in one sentence."""

import socket
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx

PROBE_TIMEOUT_S = 2.0
_SHOWN_CHARS = 500
"""How much of an error answer is repeated."""
_GATEWAY = (502, 504)
"""Statuses of a proxy whose server does not answer."""


def no_answer(url: str, where: str, error: Exception) -> str:
    """Return why there was no answer.

    Args:
        url: the server's address.
        where: the same for people; a unix socket has a path.
    """
    for cause in _causes(error):
        match cause:
            case ssl.SSLCertVerificationError():
                advice = "name its authority, or the certificate itself, with --ssl-certfile"
                return f"the certificate of {where} is not trusted: {cause.verify_message}; {advice}"
            case ssl.SSLError(reason="WRONG_VERSION_NUMBER" | "RECORD_LAYER_FAILURE" | "HTTP_REQUEST"):
                return f"{where} speaks no TLS: its address begins with http://"
            case ConnectionRefusedError() | FileNotFoundError():
                return f"nothing listens at {where}: start the server, or say where it is with --url"
            case socket.gaierror():
                return f"there is no host {urlsplit(url).hostname!r}: correct the address {where}"
            case httpx.TimeoutException():
                return f"{where} does not answer in time: it is stuck, or no HTTP server"
    if isinstance(error, httpx.ConnectError):
        return f"{where} cannot be reached: {error}"
    if url.startswith("http:") and _speaks_tls(url):
        return f"{where} speaks TLS: its address begins with https://"
    return f"{where} gives no HTTP answer, so it is no channelstream server: {error}"


def refused(url: str, path: str, answer: httpx.Response) -> str:
    """Return what an error answer says; `url` is the server's address."""
    if answer.is_redirect:
        return f"{url} sends {path} on to {answer.headers.get('location', '')!r}: use the address it means"
    if not _is_json(answer):
        if answer.status_code in _GATEWAY:
            return f"{url} is a proxy whose server does not answer ({answer.status_code}): start that"
        if answer.status_code == 400 and "HTTPS" in answer.text:
            return f"{url} speaks TLS: its address begins with https://"
        return f"{url} is no channelstream server: it answered {answer.status_code} to {path}, and no JSON"
    text = " ".join(answer.text.split())[:_SHOWN_CHARS]
    return f"{url}{path} answered {answer.status_code}: {text}"


def not_channelstream(url: str, path: str) -> str:
    """Return what to say of an answer that is none of channelstream's."""
    return f"{url} is no channelstream server: its answer to {path} is another program's"


def _causes(error: BaseException | None) -> Iterator[Any]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_json(answer: httpx.Response) -> bool:
    try:
        answer.json()
    except ValueError:
        return False
    return True


def _speaks_tls(url: str) -> bool:
    """Whether a TLS handshake succeeds where HTTP did not; nothing is sent in it, so nobody needs to be trusted."""
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
