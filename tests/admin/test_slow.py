"""Slow clients as the admin's pages show them, with a real reader that stops and goes on."""

import json
import socket
from typing import Any

from tests.http_client import http
from tests.waiting import PATIENCE_S, eventually

TEXT = "x" * 50_000
MESSAGES = 200
"""10 MB: more than the kernel takes for a reader that has stopped."""


def stopped_reader(running: Any, conn_id: str) -> socket.socket:
    """Open an event stream, of which nothing is read; the kernel keeps little for it."""
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.settimeout(PATIENCE_S)
    reader.connect(("127.0.0.1", running.port))
    request = f"GET /sse?conn_id={conn_id}&since= HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n"
    reader.sendall(request.encode())
    return reader


def test_a_client_that_does_not_read_is_shown_while_it_does_not(start_server: Any) -> None:
    """Since when, and how far it is behind; once it has read everything, it is not slow any more."""
    running = start_server("--outbox-bytes", "4096")
    auth = ("admin", running.admin_secret)

    def rows() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = http.get(
            f"{running.url}/admin/data/slow_clients", auth=auth, timeout=PATIENCE_S
        ).json()["rows"]
        return found

    def figure() -> int:
        with http.stream("GET", f"{running.url}/admin/live", auth=auth, timeout=PATIENCE_S) as live:
            line = next(line for line in live.iter_lines() if line.startswith("data: "))
        count: int = json.loads(line.removeprefix("data: "))["figures"]["slow_clients"]
        return count

    conn_id = running.connect("slow-ann", "slow")
    with stopped_reader(running, conn_id) as reader:
        assert rows() == []
        for number in range(MESSAGES):
            running.post("/message", [{"channel": "slow", "user": "x", "message": f"{number} {TEXT}"}])
        eventually(lambda: len(rows()) == 1 and rows()[0]["lag"]["events"] > 1, "it is not shown")
        [row] = rows()
        assert (row["id"], row["user"], row["transport"]) == (conn_id, "slow-ann", "SSE")
        assert 1 < row["lag"]["events"] <= MESSAGES
        assert row["lag"]["bytes"] > row["lag"]["events"] * len(TEXT)
        assert row["waiting_bytes"] > 0
        eventually(lambda: figure() == 1, "it is not counted")
        received = b""
        while f'"{MESSAGES - 1} x'.encode() not in received[-2 * len(TEXT) :]:
            received += reader.recv(1 << 20)
        eventually(lambda: rows() == [], "it is still slow")
        eventually(lambda: figure() == 0, "it is still counted")
