"""One API call as its handler sees it."""

from collections.abc import Mapping
from dataclasses import dataclass

from channelstream.api.validation import missing_connection, unknown_connection
from channelstream.core.connection import Connection
from channelstream.core.ids import normalize_conn_id
from channelstream.node import Node


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was let in.

    Attributes:
        key: what the header Idempotency-Key says, empty without one.
    """

    node: Node
    body: bytes
    query: Mapping[str, str]
    key: str

    def connection(self, named: str | None) -> Connection:
        """Return the connection the body names, or else the query.

        Raises:
            Invalid: neither names one, or there is none of that name.
        """
        connection = self.find_connection(named)
        if connection is None:
            raise unknown_connection()
        return connection

    def find_connection(self, named: str | None) -> Connection | None:
        """Like `connection`, with None for an unknown one.

        Raises:
            Invalid: neither body nor query names one.
        """
        text = named or self.query.get("conn_id")
        if not text:
            raise missing_connection()
        try:
            return self.node.connection(normalize_conn_id(text))
        except ValueError:
            return None
