"""Heads of requests: which upgrades they offer."""

import pytest

from channelstream.core.http_head import offered, read_head


@pytest.mark.parametrize(
    ("fields", "upgrades"),
    [
        ("Connection: Upgrade\r\nUpgrade: WebSocket", (b"websocket",)),
        ("Connection: keep-alive, Upgrade\r\nUpgrade: h2c, websocket", (b"h2c", b"websocket")),
        ("Connection: keep-alive,\tupgrade\r\nUpgrade: websocket", (b"websocket",)),
        ("Connection: keep-alive\r\nConnection: upgrade\r\nUpgrade: websocket", (b"websocket",)),
        ("Connection: Upgrade\r\nUpgrade: web socket", (b"web socket",)),
        ("Connection: keep-alive\r\nUpgrade: websocket", ()),
        ("Connection: Upgrade", ()),
        ("Upgrade: websocket", ()),
    ],
)
def test_an_upgrade_needs_upgrade_and_connection(fields: str, upgrades: tuple[bytes, ...]) -> None:
    """Upgrade and Connection are lists without regard to case, and an upgrade needs both (RFC 9110, 7.8)."""
    assert offered(read_head(f"GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n".encode())) == upgrades
    assert offered(read_head(f"GET / HTTP/1.0\r\nHost: x\r\n{fields}\r\n\r\n".encode())) == ()
