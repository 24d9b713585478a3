"""How a server is reached and spoken to: its address, and the bytes of the requests that are made of it."""

import base64
import os
import ssl
from urllib.parse import quote

from itsdangerous import TimestampSigner
from msgspec import Struct

from channelstream.bench.load import BenchFailed, Transport
from channelstream.errors import ConfigError

_PATHS: dict[Transport, str] = {"ws": "/ws", "sse": "/sse", "poll": "/listen"}
_DEFLATE = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
TEXT_FRAME, CLOSE_FRAME, PONG_FRAME = 0x81, 0x88, 0x8A


class Wire(Struct, frozen=True, kw_only=True):
    """A server as clients see it; the defaults are channelstream's, the rest is for servers it is compared with.

    Attributes:
        tls: whether to speak TLS, trusting the system's authorities and `certfile`.
        prefix: path in front of all paths, which a proxy strips.
        secret: key that requests are signed with; empty means that they are not, and that clients are not registered.
        stream_path: path of the streams; empty means that of the transport.
        opening: texts a client sends when its WebSocket is open.
        opened_by: text after which a client counts as attached; empty means the end of the handshake.
    """

    host: str
    port: int
    tls: bool = False
    certfile: str = ""
    prefix: str = ""
    secret: str = ""
    stream_path: str = ""
    opening: tuple[str, ...] = ()
    opened_by: str = ""

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{self.prefix}"

    def tls_context(self) -> ssl.SSLContext | None:
        """What to trust; None without TLS."""
        if not self.tls:
            return None
        # Here, since it brings all settings along, which takes half the time in which a worker starts.
        from channelstream.config.tls import client_context

        try:
            return client_context(self.certfile)
        except ConfigError as error:
            raise BenchFailed(str(error)) from error

    def signature(self, path: str) -> bytes:
        """The header line that signs a call; nothing where calls are not signed."""
        if not self.secret:
            return b""
        return b"x-channelstream-secret: %b\r\n" % TimestampSigner(self.secret).sign(path)

    def post(self, path: str, body: bytes, headers: bytes) -> bytes:
        """The bytes of a call."""
        return (
            b"POST %b HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b"
            % (
                (self.prefix + path).encode(),
                self.host.encode(),
                headers,
                len(body),
                body,
            )
        )

    def get(self, path: str, headers: bytes = b"") -> bytes:
        return b"GET %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (
            (self.prefix + path).encode(),
            self.host.encode(),
            headers,
        )

    def stream(self, transport: Transport, conn_id: str, deflate: bool = False) -> bytes:
        """The bytes that open a stream, or ask for the next poll.

        Args:
            conn_id: of a registered client; empty for servers that register none.
        """
        path = self.stream_path or _PATHS[transport]
        target = f"{path}?conn_id={quote(conn_id)}" if conn_id else path
        if transport == "ws":
            return self._upgrade(target, deflate)
        return self.get(target)

    def _upgrade(self, target: str, deflate: bool) -> bytes:
        lines = [
            f"GET {self.prefix}{target} HTTP/1.1",
            f"Host: {self.host}:{self.port}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        ]
        if deflate:
            lines.append(f"Sec-WebSocket-Extensions: {_DEFLATE}")
        return "\r\n".join([*lines, "", ""]).encode()


def masked(first: int, payload: bytes) -> bytes:
    """A client's frame (RFC 6455 section 5.3); its mask is zero, as there is no cache here to protect.

    Args:
        payload: fewer than 65,536 bytes.
    """
    size = len(payload)
    head = bytes((first, 0x80 | size)) if size < 126 else bytes((first, 0xFE)) + size.to_bytes(2)
    return head + bytes(4) + payload
