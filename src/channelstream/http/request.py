"""A request, as its handler receives it: the head is there, and the body is read when the handler asks for it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Protocol, Self

from channelstream.core.headers import Header
from channelstream.core.http_head import RequestHead
from channelstream.core.policy import Policy
from channelstream.core.query import read_query
from channelstream.errors import TooLarge
from channelstream.http.line import Line
from channelstream.http.response import Response

Part = tuple[bytes, bool]
"""Bytes of a body, and whether more follow."""
NO_PARAMETERS: Final[Mapping[str, str]] = MappingProxyType({})


class ClientGone(Exception):
    """The client disconnected before it had sent its whole request, or while it waited: there is no answer."""


class Source(Protocol):
    """Where the body of a request comes from: an exchange of a connection, or another ASGI server."""

    async def receive(self) -> Part | None:
        """Return the next part of the body; None if the client has gone or the answer is complete."""

    def take_whole(self) -> bytes | None:
        """Return the body, if all of it is there; else None, and `receive` reads it. Nothing may have been read before."""

    def line(self) -> Line | None:
        """Return the socket; None if another server has it."""


class Request:
    """A request.

    Attributes:
        head: its path has no prefix of a proxy.
        path: that of the head.
        headers: those of the head.
        source: where its body comes from.
        route: the path of its route, as the table has it; empty for a page, and before one is found.
        parameters: the values of the parameters in the path of its route, such as `{key}`.
        app_id: the application that it is for; empty for the default one, and before it is known.
        handler: who answers all requests with this head; None before it is found, and if it has to be found for each.
        proof: what authentication has found out about this head; None for nothing. HTTP does not read it.
    """

    __slots__ = (
        "_address",
        "_arguments",
        "_policy",
        "_prefix_app_id",
        "app_id",
        "handler",
        "head",
        "headers",
        "parameters",
        "path",
        "proof",
        "route",
        "source",
    )

    def __init__(self, head: RequestHead, source: Source, policy: Policy, app_id: str = "") -> None:
        self.head = head
        self.path = head.path
        self.headers: Sequence[Header] = head.headers
        self.source = source
        self.parameters: Mapping[str, str] = NO_PARAMETERS
        self.route = ""
        self.app_id = self._prefix_app_id = app_id
        self.handler: Callable[[Self], Response | Awaitable[Response | None]] | None = None
        self.proof: Any = None
        self._policy = policy
        self._address: str | None = None
        self._arguments: dict[str, str] | None = None

    def again(self, head: RequestHead) -> None:
        """Be the next request of the connection, whose head is the same but for values of `http_head_form.CHANGING`.

        What was found out about that head stays: route and handler, parameters, address and proof.
        """
        self.head = head if head.path == self.path else head._replace(path=self.path)
        self.headers = head.headers
        self.app_id = self._prefix_app_id

    @property
    def method(self) -> str:
        return self.head.method

    def header(self, name: bytes) -> bytes | None:
        """Return the value of the first header with this lower-case name; None if there is none."""
        return self.head.first.get(name)

    @property
    def target(self) -> bytes:
        """Path and query as they were received (`Policy.target`)."""
        return self._policy.target(self.head)

    @property
    def root(self) -> str:
        """What the caller has before the path (`Policy.root`)."""
        return self._policy.root(self.head)

    @property
    def scheme(self) -> str:
        """The scheme of the request, as trusted proxies report it."""
        return self._policy.scheme(self.head)

    @property
    def query(self) -> bytes:
        return self.head.query

    @property
    def address(self) -> str:
        """The caller's address, as trusted proxies report it."""
        if self._address is None:
            self._address = self._policy.client(self.head)
        return self._address

    @property
    def arguments(self) -> dict[str, str]:
        """The parameters in the query."""
        if self._arguments is None:
            self._arguments = read_query(self.head.query)
        return self._arguments

    def whole(self, limit: int) -> bytes | None:
        """Return the body, at most `limit` bytes; None if it is not all there yet: `read` waits for it, or refuses it.

        Raises:
            TooLarge: it is longer.
        """
        body = self.source.take_whole()
        if body is not None and len(body) > limit:
            raise _too_large(limit)
        return body

    async def read(self, limit: int) -> bytes:
        """Return the body, at most `limit` bytes.

        Raises:
            TooLarge: it is longer, also by its declared length.
            ClientGone: the client disconnected.
        """
        if (self.head.body_bytes or 0) > limit:
            raise _too_large(limit)
        body: bytes | bytearray
        body, has_more = await self._receive()
        if has_more:
            # In place of the first part, which nothing here keeps.
            body = bytearray(body)
            while has_more and len(body) <= limit:
                has_more = await self._receive_more(body)
        if len(body) > limit:
            raise _too_large(limit)
        return bytes(body)

    async def _receive_more(self, body: bytearray) -> bool:
        """Append the next part of the body, which may be as long as a whole one; return whether more follows."""
        part, has_more = await self._receive()
        body += part
        return has_more

    async def _receive(self) -> Part:
        part = await self.source.receive()
        if part is None:
            raise ClientGone
        return part

    async def disconnected(self) -> None:
        """Return when the client has gone, or sends nothing more; a body is discarded."""
        while await self.source.receive() is not None:
            pass


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"Send a body of at most {limit} bytes; the option max_body_bytes bounds those of signed calls."
    )
