"""One API call as its handler sees it."""

from dataclasses import dataclass
from typing import Self

from channelstream.api.validation import missing_connection
from channelstream.asgi import Scope
from channelstream.core.ids import normalize_conn_id
from channelstream.core.policy import header
from channelstream.core.query import read_query
from channelstream.errors import Invalid
from channelstream.node import Node
from channelstream.slices import Slices

MAX_KEY = 255
"""Longest Idempotency-Key, in characters."""


@dataclass(frozen=True, slots=True)
class CallLimits:
    """What one call may ask for.

    Attributes:
        messages: messages in one list.
        info_users: users of a channel that one answer names.
    """

    messages: int = 100_000
    info_users: int = 1_000


class Call:
    """A request that was let in, with its body read."""

    __slots__ = ("_scope", "body", "limits", "node", "turns")

    def __init__(self, node: Node, scope: Scope, body: bytes, limits: CallLimits) -> None:
        self.node = node
        self.body = body
        self.limits = limits
        self.turns = Slices(node.clock.steady)
        self._scope = scope

    @classmethod
    def internal(cls, node: Node, body: bytes = b"") -> Self:
        """Return a call of the server's own."""
        return cls(node, {"headers": [], "query_string": b""}, body, CallLimits())

    @property
    def key(self) -> str:
        """What the header Idempotency-Key says, empty without one.

        Raises:
            Invalid: it is too long; cut, it could be that of another request, whose messages would be taken for these.
        """
        text = (header(self._scope["headers"], b"idempotency-key") or b"").decode("latin-1")
        if len(text) > MAX_KEY:
            raise Invalid({"Idempotency-Key": [f"Longer than maximum length {MAX_KEY}."]})
        return text

    def conn_id(self, named: str | None) -> str | None:
        """Return the connection id of the body, or else of the query, in its normal form; None if it is malformed.

        Raises:
            Invalid: neither names one.
        """
        text = named or read_query(self._scope["query_string"]).get("conn_id")
        if not text:
            raise missing_connection()
        try:
            return normalize_conn_id(text)
        except ValueError:
            return None
