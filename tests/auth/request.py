"""A request of the tests of authentication schemes."""

from dataclasses import dataclass, field

from channelstream.auth.base import Proof
from channelstream.core.headers import Header, header


@dataclass
class Request:
    """A request (`auth.base.AuthRequest`)."""

    headers: list[Header] = field(default_factory=list)
    query: bytes = b""
    address: str = "127.0.0.1"
    method: str = "POST"
    path: str = "/message"
    target: bytes = b"/message"
    scheme: str = "http"
    root: str = ""
    proof: Proof | None = None

    def header(self, name: bytes) -> bytes | None:
        return header(self.headers, name)
