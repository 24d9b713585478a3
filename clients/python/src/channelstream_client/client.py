"""`Channelstream` and `AsyncChannelstream`: the same calls, blocking and awaited."""

import asyncio
import random
import secrets
import ssl
import time
from collections.abc import Callable, Coroutine
from functools import cache, partial
from inspect import Parameter, signature
from typing import Any, Concatenate, Never, ParamSpec, Self, TypeVar, get_args

import httpx

from channelstream_client import calls
from channelstream_client.blocking import BlockingListening, BlockingRenew, in_a_thread
from channelstream_client.calls import Plan
from channelstream_client.errors import Unreachable
from channelstream_client.exchange import Answer, Caller, Outcome, Pause, Request, Retries, Steps
from channelstream_client.http_clients import LoopClients, ProcessClients
from channelstream_client.listening import Listening
from channelstream_client.model import Connection
from channelstream_client.pump import Renew
from channelstream_client.reach import Reach, Verify, checked_address, tls_context
from channelstream_client.resuming import Down
from channelstream_client.signing import Signer, Signing
from channelstream_client.streams import BY_HTTP, TRANSPORTS

TIMEOUT_S = 10.0
"""Timeout of one attempt: for connecting, and then for each read."""

NONCE_BYTES = 16

P = ParamSpec("P")
T = TypeVar("T")
Awaited = Coroutine[Never, object, T]
"""What an awaited call returns: it fits every annotation of a coroutine. With `Any` for the first two, mypy would take the
result of `asyncio.gather` for `Any`."""


def _blocking(plan: Callable[P, Plan[T]]) -> Callable[Concatenate["Channelstream", P], T]:
    """Return the method that runs a plan and returns its result."""

    def method(self: "Channelstream", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._do(self._caller.carry_out(plan(*args, **kwargs)))

    return _with_signature_of(plan, method)


def _awaited(plan: Callable[P, Plan[T]]) -> Callable[Concatenate["AsyncChannelstream", P], Awaited[T]]:
    """Return the coroutine method that runs a plan and returns its result."""

    async def method(self: "AsyncChannelstream", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._do(self._caller.carry_out(plan(*args, **kwargs)))

    return _with_signature_of(plan, method)


M = TypeVar("M", bound=Callable[..., Any])


def _with_signature_of(plan: Callable[..., Any], method: M) -> M:
    """Return the method with name, docstring and signature of its plan, after `self`."""
    own = signature(method).parameters["self"].replace(annotation=Parameter.empty)
    looks = signature(plan)
    result = get_args(looks.return_annotation)[-1]
    method.__name__ = plan.__name__
    method.__doc__ = plan.__doc__
    shown = looks.replace(parameters=[own, *looks.parameters.values()], return_annotation=result)
    method.__signature__ = shown  # type: ignore[attr-defined]
    return method


def _caller(secret: str, key_id: str, signing: Signing, retries: Retries | None) -> Caller:
    signer = Signer(secret, key_id, signing, time.time, partial(secrets.token_urlsafe, NONCE_BYTES))
    return Caller(signer, retries or Retries(), random.random)


def _tls_once(url: str, verify: Verify, http: object) -> Callable[[], ssl.SSLContext]:
    """Return a function that creates the TLS context at its first call.

    Raises:
        ValueError: `verify` is set although `http`, which verifies certificates itself, is passed.
    """
    if http is not None and verify is not True:
        raise ValueError("verify has no effect together with http: configure it in http")
    return cache(lambda: tls_context(url, verify))


def _answer(response: httpx.Response) -> Answer:
    retry_after = response.headers.get("retry-after", "")
    challenge = response.headers.get("www-authenticate", "")
    return Answer(response.status_code, response.content, retry_after, time.time(), challenge)


def _unreachable(url: str, error: httpx.HTTPError) -> Unreachable:
    unreachable = Unreachable(f"{url}: {str(error) or type(error).__name__}")
    unreachable.__cause__ = error
    return unreachable


class Channelstream:
    """Calls a channelstream server. Several threads may use it, and the children of a process that forks.

    Every method may raise `ChannelstreamError`; `errors` has its subclasses.
    """

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        key_id: str = "",
        signing: Signing = "auto",
        timeout_s: float = TIMEOUT_S,
        retries: Retries | None = None,
        verify: Verify = True,
        trust_env: bool = True,
        http: httpx.Client | None = None,
    ) -> None:
        """Create a client without connecting.

        Args:
            url: the server's address; its path is a prefix that a proxy strips.
            secret: the server's option `secret`, or the secret of the key `key_id`.
            key_id: the id of a key in the server's `keys_file`; empty for the option `secret`.
            signing: `signed` (the whole call), `old` (its path, for servers before 1.0), or `auto`: `signed` if the server
                knows it. Until the server has accepted a call, one who can change its answers may make `auto` use `old`.
            timeout_s: timeout of one attempt, for connecting and for each read; also how long one may wait while
                `CALLS_AT_ONCE` others are under way.
            retries: how calls are repeated; None means four attempts.
            verify: how to verify the server's certificate: an `ssl.SSLContext`, or the path of authorities.
            trust_env: use the proxies of the environment.
            http: an HTTP client to use, for example for unix sockets. It has its own timeouts, limits, certificates and
                proxies, and `close` leaves it open.
        """
        self.url = checked_address(url)
        self._caller = _caller(secret, key_id, signing, retries)
        self._trust_env = trust_env
        self._tls = _tls_once(self.url, verify, http)
        self._owns_http = http is None
        self._http = http or ProcessClients(
            lambda: httpx.Client(timeout=timeout_s, verify=self._tls(), trust_env=trust_env), timeout_s
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the server."""
        if self._owns_http:
            self._http.close()

    def listen(
        self,
        conn_id: str | Connection,
        *,
        since: str = "",
        renew: BlockingRenew | None = None,
        on_down: Callable[[Down], object] | None = None,
        attempts: int | None = None,
        give_up_after_s: float | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> BlockingListening:
        """Iterate over the events of a connection: `for event in client.listen(connection)`. A thread reads the stream.

        The stream opens with the first wait for an event, as that of `AsyncChannelstream.listen`.

        Args:
            conn_id, since, attempts, give_up_after_s: as for `AsyncChannelstream.listen`.
            renew: as for `AsyncChannelstream.listen`, but a plain function that is called in a thread of its own.
            on_down: as for `AsyncChannelstream.listen`, but called in the thread.
            http: an HTTP client for the stream, which then is SSE or long polls; it is left open.

        Raises:
            ValueError: this client has its own `http`, which cannot carry a stream, and `http` is None.
        """
        if http is None and not self._owns_http:
            raise ValueError(
                "an httpx.Client cannot carry a stream: pass an httpx.AsyncClient as http to listen"
            )
        reach = Reach(self._tls, trust_env=self._trust_env, http=http)
        return BlockingListening(
            lambda: Listening(
                self.url,
                conn_id,
                since=since,
                renew=in_a_thread(renew) if renew else None,
                on_down=on_down,
                attempts=attempts,
                give_up_after_s=give_up_after_s,
                reach=reach,
                transports=BY_HTTP if http else TRANSPORTS,
            )
        )

    def _do(self, steps: Steps[T]) -> T:
        outcome: Outcome = None
        try:
            while True:
                step = steps.send(outcome)
                outcome = self._take(step)
        except StopIteration as stop:
            result: T = stop.value
            return result

    def _take(self, step: Request | Pause) -> Outcome:
        if isinstance(step, Request):
            return self._send(step)
        time.sleep(step.wait_s)
        return None

    def _send(self, request: Request) -> Answer | Unreachable:
        try:
            return _answer(
                self._http.request(
                    request.method, self.url + request.path, content=request.body, headers=request.headers
                )
            )
        except httpx.HTTPError as error:
            return _unreachable(self.url, error)

    connect = _blocking(calls.connect)
    subscribe = _blocking(calls.subscribe)
    unsubscribe = _blocking(calls.unsubscribe)
    publish = _blocking(calls.publish)
    publish_many = _blocking(calls.publish_many)
    edit = _blocking(calls.edit)
    delete = _blocking(calls.delete)
    user_state = _blocking(calls.user_state)
    user_status = _blocking(calls.user_status)
    channel_config = _blocking(calls.channel_config)
    info = _blocking(calls.info)
    disconnect = _blocking(calls.disconnect)
    revoke = _blocking(calls.revoke)


class AsyncChannelstream:
    """Calls a channelstream server from asyncio, and listens to it.

    Every method may raise `ChannelstreamError`; `errors` has its subclasses.
    """

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        key_id: str = "",
        signing: Signing = "auto",
        timeout_s: float = TIMEOUT_S,
        retries: Retries | None = None,
        verify: Verify = True,
        trust_env: bool = True,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        """Create a client; the arguments are those of `Channelstream`.

        Several event loops may use it, one after the other or at once, unless an `http` is passed that does not allow it.
        """
        self.url = checked_address(url)
        self._caller = _caller(secret, key_id, signing, retries)
        self._trust_env = trust_env
        self._tls = _tls_once(self.url, verify, http)
        self._given_http = http
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        self._clients = LoopClients(
            lambda: httpx.AsyncClient(timeout=timeout_s, verify=self._tls(), trust_env=trust_env), timeout_s
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections to the server."""
        self._is_closed = True
        await self._clients.close()

    def listen(
        self,
        conn_id: str | Connection,
        *,
        since: str = "",
        renew: Renew | None = None,
        on_down: Callable[[Down], object] | None = None,
        attempts: int | None = None,
        give_up_after_s: float | None = None,
    ) -> Listening:
        """Iterate over the events of a connection: `async for event in client.listen(connection)`.

        The stream opens with the first wait for an event, which has to come within 15 s of `connect`: `listen` and
        `async with` open none.

        The stream is a WebSocket; if that fails, SSE; if that fails, long polls. With an `http` of the client it is SSE or
        long polls over that. The logger `channelstream_client` logs each failed attempt.

        Args:
            conn_id: what `connect` returned, or its `conn_id` alone.
            since: the position to resume from; empty means the position of the connection, or of a `conn_id` alone that only
                events arrive that are sent once the stream is open.
            renew: returns a new connection (or its id) when the server no longer knows this one. If it has a parameter,
                it receives the last position, for `connect(since=...)`. If it fails, it is called again later.
            on_down: called with a `Down` at each failed attempt, and at each end of a stream that will be resumed.
            attempts: failures in a row after which listening fails; None means no limit.
            give_up_after_s: time without a stream after which listening fails, in seconds; None means no limit.
        """
        return Listening(
            self.url,
            conn_id,
            since=since,
            renew=renew,
            on_down=on_down,
            attempts=attempts,
            give_up_after_s=give_up_after_s,
            reach=Reach(self._tls, trust_env=self._trust_env, http=self._given_http),
            transports=BY_HTTP if self._given_http else TRANSPORTS,
        )

    async def _do(self, steps: Steps[T]) -> T:
        outcome: Outcome = None
        try:
            while True:
                step = steps.send(outcome)
                outcome = await self._take(step)
        except StopIteration as stop:
            result: T = stop.value
            return result

    async def _take(self, step: Request | Pause) -> Outcome:
        if isinstance(step, Request):
            return await self._send(step)
        await asyncio.sleep(step.wait_s)
        return None

    async def _send(self, request: Request) -> Answer | Unreachable:
        try:
            return _answer(
                await self._http().request(
                    request.method, self.url + request.path, content=request.body, headers=request.headers
                )
            )
        except httpx.HTTPError as error:
            return _unreachable(self.url, error)
        except RuntimeError as error:
            if self._loop not in (None, asyncio.get_running_loop()):
                error.add_note("the http of this AsyncChannelstream was used in another event loop before")
            raise

    def _http(self) -> httpx.AsyncClient | LoopClients:
        if self._is_closed:
            raise RuntimeError("this AsyncChannelstream is closed")
        if self._given_http is None:
            return self._clients
        self._loop = self._loop or asyncio.get_running_loop()
        return self._given_http

    connect = _awaited(calls.connect)
    subscribe = _awaited(calls.subscribe)
    unsubscribe = _awaited(calls.unsubscribe)
    publish = _awaited(calls.publish)
    publish_many = _awaited(calls.publish_many)
    edit = _awaited(calls.edit)
    delete = _awaited(calls.delete)
    user_state = _awaited(calls.user_state)
    user_status = _awaited(calls.user_status)
    channel_config = _awaited(calls.channel_config)
    info = _awaited(calls.info)
    disconnect = _awaited(calls.disconnect)
    revoke = _awaited(calls.revoke)
