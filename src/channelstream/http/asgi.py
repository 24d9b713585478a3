"""The bridge between this server and ASGI, in both directions.

`AsgiHandler` lets an ASGI application answer requests: the pages. `RouterApp` is the server as an ASGI application, for
a client in the same process. Nothing else knows ASGI.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import aclosing
from typing import Any

from channelstream.core.headers import Header, header
from channelstream.core.http_head import RequestHead, first_values
from channelstream.core.policy import Policy
from channelstream.http.exchange import HttpExchange
from channelstream.http.line import Line
from channelstream.http.request import ClientGone, Part, Request
from channelstream.http.router import Router

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

ASGI = {"version": "3.0", "spec_version": "2.3"}
TARGET = "channelstream.target"
"""The key of `Policy.target` in a scope."""
IS_LOCAL = "channelstream.is_local"
"""The key of `Policy.is_local` in a scope."""
DISCONNECT = {"type": "http.disconnect"}

logger = logging.getLogger(__name__)


class AsgiHandler:
    """Passes requests to an ASGI application, with the browser's address, scheme and host, not those of a trusted proxy."""

    def __init__(self, app: App, policy: Policy, scheme: str = "") -> None:
        """Create the handler.

        Args:
            app: the application.
            policy: who is calling, from where.
            scheme: the scheme of all requests, whatever their sockets say; empty: that of the browser.
        """
        self._app = app
        self._policy = policy
        self._scheme = scheme

    def __call__(self, request: Request) -> Awaitable[None]:
        """Answer in a task of its own: frameworks look their state up by the task that runs."""
        exchange = request.source
        if not isinstance(exchange, HttpExchange):
            raise TypeError("an ASGI application answers only requests of a connection")
        return asyncio.get_running_loop().create_task(self._run(request.head, exchange))

    async def _run(self, head: RequestHead, exchange: HttpExchange) -> None:
        conversation = _Conversation(exchange, has_body=head.method != "HEAD")
        try:
            await self._app(self._scope(head), conversation.receive, conversation.send)
        except Exception:
            logger.exception("an HTTP request failed with an unexpected error")
            exchange.fail()

    def _scope(self, head: RequestHead) -> Scope:
        policy = self._policy
        root = policy.root(head)
        return {
            "type": "http",
            "asgi": ASGI,
            "http_version": head.version,
            "server": None,
            "client": (policy.client(head), head.client[1] if head.client else 0),
            "scheme": self._scheme or policy.scheme(head),
            "method": head.method,
            "root_path": root,
            "path": root + head.path,
            "raw_path": head.raw_path,
            "query_string": head.query,
            "headers": self._headers(head),
            TARGET: policy.target(head),
            IS_LOCAL: policy.is_local(head),
        }

    def _headers(self, head: RequestHead) -> Sequence[Header]:
        """Return the headers with the Host of the browser's request, if a trusted proxy names it."""
        host = self._policy.host(head).encode()
        if not host:
            return list(head.headers)
        return [(b"host", host), *(field for field in head.headers if field[0] != b"host")]


class _Conversation:
    """The events of one request, as ASGI has them."""

    def __init__(self, exchange: HttpExchange, *, has_body: bool) -> None:
        """Begin a conversation.

        Args:
            has_body: whether the answer has a body. That of HEAD has none, where the application may send one without end.
        """
        self._exchange = exchange
        self._has_body = has_body

    async def receive(self) -> dict[str, Any]:
        part = await self._exchange.receive()
        if part is None:
            return DISCONNECT
        body, has_more = part
        return {"type": "http.request", "body": body, "more_body": has_more}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            await self._exchange.start(message["status"], list(message.get("headers", ())))
            if not self._has_body:
                self._exchange.finish()
        elif message["type"] == "http.response.body":
            if not self._has_body:
                return
            await self._exchange.write(message.get("body", b""))
            if not message.get("more_body", False):
                self._exchange.finish()
        else:
            raise RuntimeError(f"{message['type']} is no event of a response")


class ScopeRequest:
    """A request of which only the scope is known, as authentication reads it (`auth.base.AuthRequest`)."""

    def __init__(self, scope: Scope) -> None:
        """Wrap the scope that `AsgiHandler` has made: its client is the browser."""
        self.method: str = scope["method"]
        self.path: str = scope["path"].removeprefix(scope["root_path"])
        self.root: str = scope["root_path"]
        self.query: bytes = scope["query_string"]
        self.target: bytes = scope[TARGET]
        self.scheme: str = scope["scheme"]
        self.headers: Sequence[Header] = scope["headers"]
        self.address: str = scope["client"][0]
        self.proof: Any = None

    def header(self, name: bytes) -> bytes | None:
        return header(self.headers, name)


class RouterApp:
    """The handlers of a router as an ASGI application; none of them may be an ASGI application itself."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = self._router.request(_head(scope), _AsgiSource(receive))
        try:
            response = await self._router.answer(request)
        except ClientGone:
            return
        if response is None:
            return
        await send({"type": "http.response.start", "status": response.status, "headers": response.fields()})
        async with aclosing(response.parts()) as parts:
            async for part in parts:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


class _AsgiSource:
    """The body of a request that another ASGI server, or a client in this process, has read."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive

    async def receive(self) -> Part | None:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            return None
        return message.get("body", b""), message.get("more_body", False)

    def take_whole(self) -> None:
        """Return None: the other server may not have read the body yet."""

    def line(self) -> Line | None:
        return None


def _head(scope: Scope) -> RequestHead:
    headers = list(scope["headers"])
    length = header(headers, b"content-length")
    return RequestHead(
        method=scope["method"],
        version=scope["http_version"],
        path=scope["path"],
        raw_path=scope["raw_path"],
        query=scope["query_string"],
        headers=headers,
        first=first_values(headers),
        body_bytes=int(length) if length is not None and length.isdigit() else None,
        keep_alive=True,
        expects_continue=False,
        upgrade=b"",
        client=scope.get("client"),
        scheme=scope["scheme"],
    )
