"""The HTTP clients of calls: a forked child has its own."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from tests.waiting import PATIENCE_S

from channelstream_client import Channelstream

FORKING = """
import os, sys
from channelstream_client import Channelstream

client = Channelstream(sys.argv[1], "secret")
client.disconnect("parent")
for _ in range(2):
    if os.fork() == 0:
        client.disconnect("child")
        client.disconnect("child")
        client.close()
        os._exit(0)
    assert os.wait()[1] == 0
client.disconnect("parent")
"""


class Server(ThreadingHTTPServer):
    """Answers each call. `connections` counts those that it has accepted."""

    daemon_threads = True
    request_queue_size = 100

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.connections = 0

    def get_request(self) -> Any:
        self.connections += 1
        return super().get_request()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        self.send_header("content-length", "4")
        self.end_headers()
        self.wfile.write(b"true")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_forked_child_opens_its_own_connections(server: Server) -> None:
    """Those of its parent and siblings would mix their answers, as in an application that forks its workers."""
    subprocess.run([sys.executable, "-c", FORKING, server.url], check=True, timeout=PATIENCE_S)
    assert server.connections == 3


def test_a_closed_client_calls_nobody(server: Server) -> None:
    client = Channelstream(server.url, "secret")
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="Channelstream is closed"):
        client.disconnect("c")
    assert server.connections == 0
