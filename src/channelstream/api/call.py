"""One API call as its handler sees it."""

from collections.abc import Mapping
from dataclasses import dataclass

from channelstream.api.validation import missing_connection
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

    def conn_id(self, named: str | None) -> str | None:
        """Return the connection id of the body, or else of the query, in its normal form; None if it is malformed.

        Raises:
            Invalid: neither names one.
        """
        text = named or self.query.get("conn_id")
        if not text:
            raise missing_connection()
        try:
            return normalize_conn_id(text)
        except ValueError:
            return None
