"""What strangers can hold of the memory of a server, by what they send."""

import socket
import ssl
from contextlib import ExitStack

import pytest
from tests.conftest import StartServer
from tests.processes import resident_bytes
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.slow

REQUEST = b"POST /nowhere HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n"


def test_a_tls_connection_keeps_little_of_what_it_has_sent_fast(
    start_server: StartServer, certificate: tuple[str, str]
) -> None:
    """A connection whose client has sent a megabyte at once keeps less than 500 KB; the loop would keep 690 KB."""
    server = start_server("--ssl-certfile", certificate[0], "--ssl-keyfile", certificate[1])
    trust = ssl.create_default_context(cafile=certificate[0])
    with ExitStack() as stack:

        def open_one() -> None:
            plain = socket.create_connection(("127.0.0.1", server.port), PATIENCE_S)
            client = stack.enter_context(trust.wrap_socket(plain, server_hostname="127.0.0.1"))
            client.sendall(REQUEST % 1_000_000 + bytes(1_000_000))
            client.sendall(REQUEST % 0)
            answers = b""
            while answers.count(b"HTTP/1.1 404 ") < 2:
                answers += client.recv(65_536)

        for _ in range(10):
            open_one()
        before = resident_bytes(server.process.pid)
        for _ in range(40):
            open_one()
        assert resident_bytes(server.process.pid) - before < 40 * 500_000
