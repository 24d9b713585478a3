"""A server's address, and the bytes of requests to it."""

import base64
import os
import secrets
import ssl
import time
from urllib.parse import quote

from itsdangerous import TimestampSigner
from msgspec import Struct

from channelstream.bench.load import BenchFailed, Transport
from channelstream.errors import ConfigError
from channelstream_client.signing import digest_of, sign

_PATHS: dict[Transport, str] = {"ws": "/ws", "sse": "/sse", "poll": "/listen"}
_DEFLATE = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
TEXT_FRAME, CLOSE_FRAME, PONG_FRAME = 0x81, 0x88, 0x8A


class Wire(Struct, frozen=True, kw_only=True):
    """Address and protocol of a server. The defaults are those of channelstream, other values are for other servers.

    Attributes:
        tls: whether to use TLS, with the system's authorities and `certfile`.
        prefix: path prefix, which a proxy strips.
        secret: key of signatures; empty means that requests are not signed and clients are not registered.
        key_id: the key that the secret belongs to; empty for the secret of an application.
        signs_whole: whether each request is signed as a whole, and not its path for many of them.
        stream_path: path of the streams; empty means the path of the transport.
        opening: texts that a client sends when its WebSocket is open.
        opened_by: text after which a client counts as attached; empty means after the handshake.
    """

    host: str
    port: int
    tls: bool = False
    certfile: str = ""
    prefix: str = ""
    secret: str = ""
    key_id: str = ""
    signs_whole: bool = False
    stream_path: str = ""
    opening: tuple[str, ...] = ()
    opened_by: str = ""

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{self.prefix}"

    def tls_context(self) -> ssl.SSLContext | None:
        """Return the TLS context; None without TLS."""
        if not self.tls:
            return None
        # Imported here, because it imports all settings, which takes half of a worker's start time.
        from channelstream.config.tls import client_context

        try:
            return client_context(self.certfile)
        except ConfigError as error:
            raise BenchFailed(str(error)) from error

    def signature(self, path: str) -> bytes:
        """Return the header line with the signature; empty if calls are not signed."""
        if not self.secret:
            return b""
        return b"x-channelstream-secret: %b\r\n" % TimestampSigner(self.secret).sign(path)

    def signed(self, method: str, path: str, body: bytes = b"") -> bytes:
        """Return the header lines that sign one request; empty if calls are not signed.

        Args:
            path: with its query, without the prefix.
        """
        if not (self.secret and self.signs_whole):
            return self.signature(path.partition("?")[0])
        nonce = secrets.token_urlsafe(16)
        value = sign(self.key_id, self.secret, method, path, int(time.time()), nonce, body)
        digest = f"content-digest: {digest_of(body)}\r\n" if body else ""
        return f"authorization: {value}\r\n{digest}".encode()

    def post(self, path: str, body: bytes, headers: bytes) -> bytes:
        """Return the bytes of a call."""
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
        """Return the bytes that open a stream or send the next poll.

        Args:
            conn_id: id of a registered connection; empty for servers without registration.
        """
        path = self.stream_path or _PATHS[transport]
        target = f"{path}?conn_id={quote(conn_id)}" if conn_id else path
        if transport == "ws":
            return self.upgrade(target, deflate)
        return self.get(target)

    def upgrade(self, target: str, deflate: bool = False) -> bytes:
        """Return the bytes that open a WebSocket.

        Args:
            target: path and query, without the prefix.
        """
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
    """Return a client's frame (RFC 6455 section 5.3). Its mask is zero, which needs no work.

    Args:
        payload: fewer than 65,536 bytes.
    """
    size = len(payload)
    head = bytes((first, 0x80 | size)) if size < 126 else bytes((first, 0xFE)) + size.to_bytes(2)
    return head + bytes(4) + payload
