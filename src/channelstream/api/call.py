"""An API call, as its handler receives it."""

from typing import Self

from channelstream.api.validation import missing_connection
from channelstream.api.walker import Walker
from channelstream.apps.app import App, AppLimits
from channelstream.apps.principal import ALL_RIGHTS, Principal
from channelstream.asgi import Scope
from channelstream.core.ids import normalize_conn_id
from channelstream.core.policy import header
from channelstream.core.query import read_query
from channelstream.errors import Invalid
from channelstream.node import Node
from channelstream.slices import Slices

MAX_KEY = 255
"""Longest Idempotency-Key, in characters."""
SERVER = Principal(App(), rights=ALL_RIGHTS)
"""The principal of the calls that the server itself makes."""


class Call:
    """An admitted request, with its body.

    Attributes:
        principal: who calls.
        slices: divides the work of this call into short event loop turns.
        walker: reads the long bodies that msgspec refuses, of all calls.
    """

    __slots__ = ("_scope", "body", "node", "principal", "slices", "walker")

    def __init__(self, node: Node, scope: Scope, body: bytes, principal: Principal, walker: Walker) -> None:
        self.node = node
        self.body = body
        self.principal = principal
        self.walker = walker
        self.slices = Slices(node.clock.steady)
        self._scope = scope

    @classmethod
    def internal(cls, node: Node, body: bytes = b"") -> Self:
        """Return a call that the server itself makes."""
        return cls(node, {"headers": [], "query_string": b""}, body, SERVER, Walker())

    @property
    def limits(self) -> AppLimits:
        """The upper bounds of one call."""
        return self.principal.app.limits

    @property
    def key(self) -> str:
        """The value of the header Idempotency-Key; empty if there is none.

        Raises:
            Invalid: it is too long. A truncated key could equal that of another request, and these messages would be
                taken for duplicates.
        """
        text = (header(self._scope["headers"], b"idempotency-key") or b"").decode("latin-1")
        if len(text) > MAX_KEY:
            raise Invalid({"Idempotency-Key": [f"Longer than maximum length {MAX_KEY}."]})
        return text

    def conn_id(self, named: str | None) -> str | None:
        """Return the normal form of the connection id in the body, or else in the query; None if it is malformed.

        Raises:
            Invalid: neither has one.
        """
        text = named or read_query(self._scope["query_string"]).get("conn_id")
        if not text:
            raise missing_connection()
        try:
            return normalize_conn_id(text)
        except ValueError:
            return None
