"""The line that tests put between a client and a server."""

import gc
import socket

from channelstream_client.testing import Line
from channelstream_client.testing.port import HeldPort


def test_line_to_a_server_that_is_gone_leaves_no_socket_open() -> None:
    """A client that reconnects while the server restarts is refused, and nothing is left to the garbage collector."""
    with HeldPort() as port:
        line = Line(port.number)
        with socket.create_connection(("127.0.0.1", line.port)) as client:
            assert client.recv(1) == b""
        line.close()
    gc.collect()
