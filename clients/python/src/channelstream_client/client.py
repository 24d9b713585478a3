"""`Channelstream` and `AsyncChannelstream`: the same calls, blocking and awaited."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from inspect import Parameter, signature
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, get_args
from urllib.parse import urlsplit

import httpx
from itsdangerous import TimestampSigner

from channelstream_client import calls
from channelstream_client.calls import Plan
from channelstream_client.errors import Unreachable
from channelstream_client.exchange import Answer, Caller, Outcome, Pause, Request, Retries, Steps
from channelstream_client.listening import Listening, Renew

TIMEOUT_S = 10.0
"""How long one attempt may take to connect, and then between two reads."""

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(plan: Callable[P, Plan[T]]) -> Callable[Concatenate["Channelstream", P], T]:
    """The method that carries a plan out and returns its result."""

    def method(self: "Channelstream", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._do(self._caller.carry_out(plan(*args, **kwargs)))

    return _like(plan, method)


def _awaited(
    plan: Callable[P, Plan[T]],
) -> Callable[Concatenate["AsyncChannelstream", P], Coroutine[Any, Any, T]]:
    """The coroutine method that carries a plan out and returns its result."""

    async def method(self: "AsyncChannelstream", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._do(self._caller.carry_out(plan(*args, **kwargs)))

    return _like(plan, method)


M = TypeVar("M", bound=Callable[..., Any])


def _like(plan: Callable[..., Any], method: M) -> M:
    """A method that looks like its plan to `help()`; `self` comes first."""
    own = signature(method).parameters["self"].replace(annotation=Parameter.empty)
    looks = signature(plan)
    result = get_args(looks.return_annotation)[-1]
    method.__name__ = plan.__name__
    method.__doc__ = plan.__doc__
    shown = looks.replace(parameters=[own, *looks.parameters.values()], return_annotation=result)
    method.__signature__ = shown  # type: ignore[attr-defined]
    return method


def _caller(secret: str, retries: Retries | None) -> Caller:
    return Caller(TimestampSigner(secret), retries or Retries(), random.random)


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"{url!r} is not an http:// or https:// address")
    return url.rstrip("/")


def _answer(response: httpx.Response) -> Answer:
    retry_after = response.headers.get("retry-after", "")
    return Answer(response.status_code, response.content, retry_after, time.time())


def _unreachable(url: str, error: httpx.HTTPError) -> Unreachable:
    unreachable = Unreachable(f"{url}: {error or type(error).__name__}")
    unreachable.__cause__ = error
    return unreachable


class Channelstream:
    """Calls a channelstream server; may be used by several threads.

    Every method may raise `ChannelstreamError`, of which `errors` has the kinds.
    """

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        timeout_s: float = TIMEOUT_S,
        retries: Retries | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        """Create a client; nothing is sent yet.

        Args:
            url: the server's address; its path is a prefix that a proxy strips.
            secret: the server's option `secret`.
            timeout_s: how long one attempt may take to connect, and between two reads.
            retries: how calls are repeated; None means four attempts.
            http: what carries the requests, for proxies, unix sockets or certificates of one's own; it has its own
                timeouts, and is left open.
        """
        self.url = _checked(url)
        self._caller = _caller(secret, retries)
        self._owns_http = http is None
        self._http = http or httpx.Client(timeout=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the server."""
        if self._owns_http:
            self._http.close()

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


class AsyncChannelstream:
    """Calls a channelstream server from asyncio, and listens to it.

    Every method may raise `ChannelstreamError`, of which `errors` has the kinds.
    """

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        timeout_s: float = TIMEOUT_S,
        retries: Retries | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        """Create a client; the arguments are those of `Channelstream`."""
        self.url = _checked(url)
        self._caller = _caller(secret, retries)
        self._owns_http = http is None
        self._http = http or httpx.AsyncClient(timeout=timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections to the server."""
        if self._owns_http:
            await self._http.aclose()

    def listen(self, conn_id: str, *, since: str = "", renew: Renew | None = None) -> Listening:
        """Hear what a connection hears: `async for event in client.listen(conn_id)`.

        Args:
            conn_id: from `connect`.
            since: the position to resume from; empty means from now on.
            renew: asked for a new `conn_id` when the server no longer knows this one.
        """
        return Listening(self.url, conn_id, since=since, renew=renew)

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
                await self._http.request(
                    request.method, self.url + request.path, content=request.body, headers=request.headers
                )
            )
        except httpx.HTTPError as error:
            return _unreachable(self.url, error)

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
