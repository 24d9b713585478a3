"""Requests of the checks to a node, and why one has no answer."""

from collections.abc import Callable
from typing import Any, TypeVar

import httpx

from channelstream.cli import diagnosis
from channelstream.cli.doctor.finding import NODE_FLAG, TRUST_FLAG, Finding, fault
from channelstream.cli.listen import reach_of
from channelstream.cli.remote import Server
from channelstream.config import Settings
from channelstream.errors import ConfigError, RequestFailed

ANSWER_BYTES = 8 << 20
"""Longest answer that is read; the metrics of very many workers are shorter."""
REFUSED = (
    "compare secret and allow_posting_from with the options of that server, and the clocks of both machines"
)
T = TypeVar("T")


class Unanswered(RequestFailed):
    """There is no answer.

    Attributes:
        advice: what to do; empty if the message says all.
    """

    def __init__(self, found: diagnosis.Advised) -> None:
        super().__init__(found.cause)
        self.advice = found.advice


async def probe(server: Server, settings: Settings, path: str, flag: str = NODE_FLAG) -> httpx.Response:
    """Return the answer to a request without a signature, as `ask` does.

    Args:
        flag: the one that names the address, for the advice.
    """
    return await _request(server, settings, "GET", path, flag)


async def ask(server: Server, settings: Settings, method: str, path: str, **parts: Any) -> httpx.Response:
    """Return the answer to a signed request, whatever its status.

    Raises:
        RequestFailed: there is none.
    """
    return await _request(server, settings, method, path, NODE_FLAG, auth=server.signatures, **parts)


async def _request(
    server: Server,
    settings: Settings,
    method: str,
    path: str,
    flag: str,
    **parts: Any,
) -> httpx.Response:
    headers = dict[str, str]()
    if settings.enforce_https and server.url.startswith("http:"):
        # The doctor speaks to a node as its trusted proxy does.
        headers["x-forwarded-proto"] = "https"
    reach = reach_of(server)
    try:
        async with reach.http.stream(method, server.url + path, headers=headers, **parts) as answer:
            return await _whole(answer, server, path)
    except ConfigError as error:
        raise RequestFailed(str(error)) from error
    except (httpx.HTTPError, OSError) as error:
        raise Unanswered(diagnosis.explained(server.url, server.where, error, flag, TRUST_FLAG)) from error
    finally:
        await reach.close()


def failed(error: RequestFailed, advice: str) -> Finding:
    """Return a fault with the advice of its cause, or else with this one."""
    return fault(str(error), (isinstance(error, Unanswered) and error.advice) or advice)


async def _whole(answer: httpx.Response, server: Server, path: str) -> httpx.Response:
    """Return an answer with its body, and of its headers those that are read.

    Raises:
        RequestFailed: the body is too long.
    """
    body = bytearray()
    async for part in answer.aiter_bytes():
        body += part
        if len(body) > ANSWER_BYTES:
            raise RequestFailed(f"{server.where} answered {path} with more than {ANSWER_BYTES} bytes")
    headers = {name: answer.headers[name] for name in ("date", "location") if name in answer.headers}
    return httpx.Response(answer.status_code, headers=headers, content=bytes(body))


def read(node: Server, path: str, reading: Callable[[], T]) -> T:
    """Return what is read in an answer.

    Raises:
        RequestFailed: the answer has another form.
    """
    try:
        return reading()
    except (ValueError, RecursionError, LookupError, TypeError) as error:
        raise RequestFailed(diagnosis.not_channelstream(node.where, path)) from error
