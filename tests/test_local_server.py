"""The HTTP servers of tests say only what the test must know."""

import socket
import threading

import pytest
from tests.local_server import LocalHandler, LocalServer, running


@pytest.mark.parametrize(("error", "reported"), [(BrokenPipeError, False), (ValueError, True)])
def test_clients_that_leave_are_not_reported(
    capsys: pytest.CaptureFixture[str], error: type[Exception], reported: bool
) -> None:
    """Other errors of a handler are."""
    is_over = threading.Event()

    class Handler(LocalHandler):
        def handle(self) -> None:
            raise error

    class Server(LocalServer):
        def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
            super().shutdown_request(request)
            is_over.set()

    with running(Server(Handler)) as server:
        socket.create_connection(server.server_address[:2]).close()
        is_over.wait()
    assert (error.__name__ in capsys.readouterr().err) is reported
