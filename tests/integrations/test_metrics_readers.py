"""Who may read the metrics: on the port of the server, and on a port of its own."""

import resource
import socket
from contextlib import ExitStack, closing

from tests.conftest import ADMIN_SECRET, RunningServer, StartServer
from tests.http_client import http
from tests.nursery import nursery
from tests.waiting import eventually

from channelstream.config import Settings
from channelstream.descriptors import reserved_descriptors
from channelstream.http.shared import SPARE_SOCKETS
from channelstream.integrations.metrics.port import MAX_SOCKETS

ADMIN = ("admin", ADMIN_SECRET)


def test_strangers_may_not_read_them(server: RunningServer) -> None:
    """Nor may a wrong password; an admin may, and the application's server by its signature."""
    url = f"{server.url}/metrics"
    assert http.get(url).status_code == 401
    assert http.get(url, auth=("admin", "wrong")).status_code == 401
    assert http.get(url, headers={"accept": "text/html"}).status_code in (302, 303, 307)
    assert http.get(url, headers=server.sign("/metrics")).status_code == 200
    answer = http.get(url, auth=ADMIN, headers={"origin": "https://elsewhere.example"})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in answer.headers


def test_addresses_of_the_option_may_read_them(start_server: StartServer) -> None:
    assert http.get(f"{start_server('--metrics-allow=127.0.0.0/8').url}/metrics").status_code == 200
    assert http.get(f"{start_server('--metrics-allow=10.0.0.0/8').url}/metrics").status_code == 401


# -- a port of its own


def test_a_port_of_its_own_answers_without_credentials(start_server: StartServer, port: str) -> None:
    """Scrapes and probes, and nothing else of the server."""
    start_server(f"--metrics-port={port}")
    url = f"http://127.0.0.1:{port}"
    scrape = http.get(f"{url}/metrics", headers={"accept": "application/openmetrics-text"})
    assert 'channelstream_ready{worker="0"} 1.0' in scrape.text.splitlines()
    assert [http.get(url + path).status_code for path in ("/healthz", "/readyz", "/info", "/")] == [
        200,
        200,
        404,
        404,
    ]


def test_a_port_of_its_own_admits_the_addresses_of_the_option(start_server: StartServer, port: str) -> None:
    start_server(f"--metrics-port={port}", "--metrics-allow=10.0.0.0/8")
    headers = {"x-forwarded-for": "10.0.0.1"}
    assert http.get(f"http://127.0.0.1:{port}/metrics", headers=headers).status_code == 403
    assert http.get(f"http://127.0.0.1:{port}/readyz").status_code == 200


def test_a_port_of_its_own_answers_where_the_server_is_full(start_server: StartServer, port: str) -> None:
    """So that no process manager ends a server for its many clients."""
    server = start_server(f"--metrics-port={port}", "--max-connections=1")
    with closing(socket.create_connection(("127.0.0.1", server.port))):
        eventually(lambda: http.get(f"{server.url}/healthz").status_code == 503, "the server is not full")
        assert http.get(f"http://127.0.0.1:{port}/healthz").status_code == 200


def test_a_port_of_its_own_answers_where_no_connection_has_a_descriptor_left(
    start_server: StartServer, port: str
) -> None:
    """With as few as the server reserves beside its connections, all of them open, many clients refused, many scrapers."""
    server = start_server(f"--metrics-port={port}", "--max-connections=40")
    most = 40 + reserved_descriptors(Settings(secret="x", metrics_port=int(port)))
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (most, most))
    with ExitStack() as stack:
        for reached, count in ((server.port, 40 + 2 * SPARE_SOCKETS), (int(port), MAX_SOCKETS - 1)):
            for _ in range(count):
                stack.enter_context(closing(socket.create_connection(("127.0.0.1", reached))))
        assert http.get(f"http://127.0.0.1:{port}/healthz").status_code == 200


def test_a_port_that_is_taken_is_named(start_server: StartServer) -> None:
    """With the option: exit code 2 and one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = nursery().run(["-p", "0", f"--metrics-port={port}"], {})
    assert ended.returncode == 2
    assert f"metrics_port: cannot listen on http://127.0.0.1:{port}: Address already in use" in ended.stderr
    assert "Traceback" not in ended.stderr
