"""The routes of the API: each call is authenticated, its body is read, and its handler answers."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from types import CoroutineType
from typing import Any, NoReturn

from channelstream.api.call import Call, finished
from channelstream.api.table import Auth, Endpoint
from channelstream.api.unproven import UnprovenBodies
from channelstream.api.walker import Walker
from channelstream.apps.principal import Principal
from channelstream.auth.base import RequestAuth
from channelstream.core.headers import Header, header
from channelstream.errors import BadSignature, Forbidden, Malformed, TooManyRequests, UnsupportedEncoding
from channelstream.http.parts import Parts, encode
from channelstream.http.request import Request
from channelstream.http.response import Response
from channelstream.http.router import Handler, Route
from channelstream.service import KeyRate, Service, Services

OPEN_BODY_BYTES = 4096
"""Longest body of a call that needs no credentials."""

LIMIT_PAUSE_S = 0.05
"""How long the refusal of a call beyond a limit waits, in seconds.

A caller that repeats a call at once, whatever the answer says, would keep the process busy with refusals, which cost as much
as other calls (45 us each). So each of its connections has 20 calls refused in a second.
"""

OnCall = Callable[[Principal, str], None]
"""Takes for whom a call acts, and the caller's address."""


class Api:
    """Serves the endpoints of a table."""

    def __init__(
        self,
        services: Services,
        auths: Mapping[Auth, RequestAuth],
        body_bytes: int,
        serves_any: bool = False,
        on_call: OnCall = lambda principal, address: None,
        unproven: UnprovenBodies | None = None,
        repeated: Callable[[], BadSignature] = BadSignature,
    ) -> None:
        """Create the API.

        Args:
            services: the use cases of each application.
            auths: the schemes that rows name.
            body_bytes: longest body of a call.
            serves_any: a call that needs no credentials belongs to the application of its connection id, since its path
                names none.
            unproven: reads bodies that have to prove their requests; None means one of its own.
            on_call: called for each call that its principal may make, or that needs none.
            repeated: returns the refusal of a request that another node has answered.
        """
        self._services = services
        self._auths = auths
        self._body_bytes = body_bytes
        self._service_of = services.of_conn_id if serves_any else None
        self._walker = Walker()
        self._on_call = on_call
        self._unproven = unproven or UnprovenBodies()
        self._repeated = repeated

    def routes(self, endpoints: Iterable[Endpoint]) -> list[Route]:
        """Return a route for each path, with the methods of all its rows."""
        handlers: dict[str, dict[str, Handler]] = {}
        for row in endpoints:
            handler = partial(self._answer, row, self._auths[row.auth], self._limit(row))
            handlers.setdefault(row.path, {}).update(dict.fromkeys(row.methods, handler))
        return [Route(path, by_method) for path, by_method in handlers.items()]

    def _limit(self, row: Endpoint) -> int:
        return min(OPEN_BODY_BYTES, self._body_bytes) if row.auth is Auth.NONE else self._body_bytes

    def _answer(
        self, row: Endpoint, auth: RequestAuth, limit: int, request: Request
    ) -> Response | Awaitable[Response]:
        """Answer a call; at once, if neither its credentials nor its body nor its handler make it wait."""
        try:
            proof = request.proof
            principal = proof.principal if proof is not None and proof.holds() else auth.principal(request)
            service = self._services.of(principal.app)
            key_rate = _admit(request, row, principal, service) if principal.is_proven else None
            # Else `_read` has it: it also checks a body that belongs to the proof.
            body = request.whole(limit) if principal.is_proven and not principal.binds_body else None
            if body is None:
                read = self._read(auth, limit, request, principal, service)
                result = self._call_later(row, request, principal, key_rate, read)
            else:
                self._on_call(principal, request.address)
                result = row.handler(Call(service, request, body, self._walker, self._service_of, key_rate))
        except (Malformed, TooManyRequests) as error:
            return _refuse(request, error)
        return _answer_later(request, result) if isinstance(result, CoroutineType) else _response(result)

    async def _call_later(
        self,
        row: Endpoint,
        request: Request,
        principal: Principal,
        key_rate: KeyRate | None,
        read: Awaitable[bytes],
    ) -> Any:
        """Read a body that is not there yet, or has to be checked, and return what the handler of the call returns.

        Args:
            read: returns the body.
        """
        body = await read
        service = self._services.of(principal.app)
        if not principal.is_proven:
            key_rate = _admit(request, row, principal, service)
        self._on_call(principal, request.address)
        call = Call(service, request, body, self._walker, self._service_of, key_rate)
        return await finished(row.handler(call))

    async def _read(
        self, auth: RequestAuth, limit: int, request: Request, principal: Principal, service: Service
    ) -> bytes:
        """Return the body of a call, checked against the proof of its credentials.

        Raises:
            BadSignature: it is not the body of the proof, or this has been shown before.
            TooLarge, Unavailable, ClientGone: it cannot be read.
        """
        body = request.whole(limit) if principal.is_proven else await self._unproven.read(request, limit)
        if body is None:
            body = await request.read(limit)
        once = auth.verify_body(request, body) if principal.binds_body else None
        if once is not None and not await service.use_once(once.text, once.keep_s):
            raise self._repeated()
        return body


async def _answer_later(request: Request, result: Awaitable[Any]) -> Response:
    """Return the answer to a call for which something waits; see `_answer`."""
    try:
        return _response(await result)
    except (Malformed, TooManyRequests) as error:
        return await _refuse(request, error)


def _response(result: Any) -> Response:
    """Return the answer with what a handler has returned."""
    if isinstance(result, Response):
        return result
    return Response(result if isinstance(result, Parts) else encode(result))


async def _refuse(request: Request, error: Malformed | TooManyRequests) -> NoReturn:
    """Raise an error of a call: for a body that is not JSON, what its encoding is; for one beyond a limit, after a pause."""
    if isinstance(error, Malformed):
        # Checked only when the body is not JSON: a good request pays nothing for it.
        _check_encoding(request.headers)
    else:
        await asyncio.sleep(LIMIT_PAUSE_S)
    try:
        raise error
    finally:
        del error  # It refers to this frame, and to those that have the body.


def _admit(request: Request, row: Endpoint, principal: Principal, service: Service) -> KeyRate | None:
    """Count a call for the key of a principal that may make it; return the rates of that key if it has some.

    From here on the request is one of the principal's application, its refusal included.

    Raises:
        Forbidden: the principal lacks the right.
        TooManyRequests: its key makes too many calls.
    """
    request.app_id = principal.app.id
    if row.right is not None and row.right not in principal.rights:
        raise Forbidden(f"These credentials lack the right '{row.right}'.")
    # Without rights it is a stranger, who has shown no key.
    if not (service.key_rates.by_key and principal.rights):
        return None
    rate = service.key_rates.by_key.get(principal.key_id)
    if rate is not None:
        rate.check_call()
    return rate


def _check_encoding(headers: Sequence[Header]) -> None:
    encoding = header(headers, b"content-encoding")
    if encoding is not None and encoding.strip().lower() != b"identity":
        raise UnsupportedEncoding(
            "Send the body uncompressed, without Content-Encoding: this server does not decompress."
        )
