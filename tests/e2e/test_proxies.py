"""The server behind nginx and HAProxy: no answer reaches another request, and streams and addresses come through."""

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress

import pytest
from tests.applications import app_of, launch_apps
from tests.conftest import RunningServer
from tests.http_client import http as http_client
from tests.odd_requests import LAST, OddClient
from tests.proxies import Proxy
from tests.pusher_calls import SHOP
from tests.pusher_client import PusherClient
from tests.waiting import PATIENCE_S
from websockets.sync.client import connect

PROXIES = ["nginx", "haproxy", "nginx-trusting", "haproxy-trusting"]
STRANGERS = 150
ODD_ANSWER_S = 0.05
SIGNED_BYTES = 400
"""More than the head of a victim's request: as much of it as an unfinished request would swallow."""
UPGRADES = [
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    b"Connection: Upgrade\r\nUpgrade: foo\r\n",
    # HAProxy 3.2 refuses one without a key by itself.
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
]
FRAMINGS = ["length", "chunked"]


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def node() -> Iterator[RunningServer]:
    """A server that trusts its proxies."""
    running = launch_apps("--trusted-proxies", "127.0.0.1")
    yield running
    code, log = running.stop()
    assert (code, "Traceback" in log) == (0, False), log


@pytest.fixture(scope="module", params=PROXIES)
def proxy(
    request: pytest.FixtureRequest, node: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    running = Proxy(tmp_path_factory.mktemp("proxy"), request.param, node.port)
    yield running
    running.stop()


class Victim:
    """A client that keeps its connection with the proxy, and knows its answers."""

    def __init__(self, server: RunningServer, port: int, name: str) -> None:
        self._server = server
        self._line = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        self._name = name
        self._count = 0

    def send(self) -> None:
        self._count += 1
        body = json.dumps({"username": self._name, "conn_id": self._id, "channels": []})
        self._line.request("POST", "/connect", body, self._server.sign("/connect"))

    def check(self) -> None:
        """The answer is the one to the last request."""
        answer = self._line.getresponse()
        text = answer.read().decode()
        assert (answer.status, self._id in text) == (200, True), f"{self._id} got {answer.status}: {text}"

    def ask(self) -> None:
        self.send()
        self.check()

    def close(self) -> None:
        self._line.close()

    @property
    def _id(self) -> str:
        return f"{self._name}-{self._count}"


def smuggle(port: int, upgrade: bytes, framing: str, hidden: bytes) -> bytes:
    """Send a request whose body is another one, and return how it was answered."""
    body = b"Content-Length: %d\r\n\r\n%b" % (len(hidden), hidden)
    if framing == "chunked":
        body = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(hidden), hidden)
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as stranger:
        stranger.sendall(b"POST /listen?conn_id=none HTTP/1.1\r\nHost: x\r\n" + upgrade + body)
        return stranger.recv(65_536)


@pytest.fixture
def victims(node: RunningServer, proxy: Proxy, request: pytest.FixtureRequest) -> Iterator[list[Victim]]:
    with ExitStack() as stack:
        found = [
            stack.enter_context(closing(Victim(node, proxy.port, f"{request.node.name}-{name}")))
            for name in "ab"
        ]
        for victim in found:
            victim.ask()
        yield found


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("upgrade", UPGRADES, ids=["h2c", "foo", "websocket"])
def test_no_victim_gets_the_answer_to_a_hidden_request(
    node: RunningServer, proxy: Proxy, victims: list[Victim], upgrade: bytes, framing: str
) -> None:
    """A poll that waits, hidden in a stranger's body, would be answered to the next client."""
    conn_id = node.connect("stranger", "strangers")
    hidden = f"GET /listen?conn_id={conn_id} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    for victim in victims * 2:
        assert smuggle(proxy.port, upgrade, framing, hidden)
        victim.send()
        node.post("/message", {"channel": "strangers", "message": {"text": "for the stranger"}, "user": "x"})
        victim.check()


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("upgrade", UPGRADES, ids=["h2c", "foo", "websocket"])
def test_no_victim_is_read_as_the_body_of_a_hidden_request(
    proxy: Proxy, victims: list[Victim], upgrade: bytes, framing: str
) -> None:
    """A head that announces a body, hidden in a stranger's, would swallow a victim's next request."""
    hidden = b"POST /disconnect HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % SIGNED_BYTES
    for victim in victims * 2:
        assert smuggle(proxy.port, upgrade, framing, hidden)
        victim.ask()


def test_no_victim_suffers_from_odd_requests(proxy: Proxy, victims: list[Victim]) -> None:
    """Whatever a stranger sends, of all that `tests/odd_requests.py` draws, other clients get their own answers."""
    for seed in range(STRANGERS):
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE_S) as stranger:
            stranger.sendall(OddClient(seed).data().removesuffix(LAST * 2))
            stranger.settimeout(ODD_ANSWER_S)
            with suppress(TimeoutError, ConnectionError):  # Some bodies never end.
                stranger.recv(65_536)
            for victim in victims:
                try:
                    victim.ask()
                except (AssertionError, TimeoutError) as error:
                    raise AssertionError(f"seed {seed}: {error}") from error


@pytest.mark.parametrize("app_id", ["", "shop"])
def test_a_websocket_passes_the_proxies(node: RunningServer, proxy: Proxy, app_id: str) -> None:
    """In both directions, with the messages published meanwhile; also that of an application."""
    app = app_of(node, app_id) if app_id else node
    conn_id = app.connect("ann", "proxied-ws")
    path = app.url.removeprefix(node.url)
    with connect(f"ws://127.0.0.1:{proxy.port}{path}/ws?conn_id={conn_id}&since=") as stream:
        app.post("/message", {"channel": "proxied-ws", "message": {"text": "hello"}, "user": "bob"})
        while "hello" not in (text := str(stream.recv(timeout=PATIENCE_S))):
            assert "error" not in text


def test_a_client_of_pusher_passes_the_proxies(proxy: Proxy) -> None:
    """Its key is in the path, where an application has its id."""
    with connect(f"ws://127.0.0.1:{proxy.port}/app/{SHOP['KEY']}?protocol=7") as stream:
        assert PusherClient(stream, SHOP).joins("private-proxied") == {}


def test_an_event_stream_passes_the_proxies(node: RunningServer, proxy: Proxy) -> None:
    """As it comes, without waiting in a buffer."""
    conn_id = node.connect("ann", "proxied-sse")
    url = f"http://127.0.0.1:{proxy.port}/sse?conn_id={conn_id}&since="
    with http_client.stream("GET", url) as stream:
        node.post("/message", {"channel": "proxied-sse", "message": {"text": "hello"}, "user": "bob"})
        assert any("hello" in line for line in stream.iter_lines())


@pytest.mark.parametrize(
    "claim", ["X-Forwarded-For: 203.0.113.9", "Forwarded: for=203.0.113.9", "X-Script-Name: /x"]
)
def test_forged_headers_do_not_reach_the_server(node: RunningServer, proxy: Proxy, claim: str) -> None:
    """The proxies replace or remove them: otherwise the call would have a forged address."""
    name, _, value = claim.partition(": ")
    url = f"http://127.0.0.1:{proxy.port}/info"
    assert http_client.post(url, headers=node.sign("/info") | {name: value}).status_code == 200
    assert http_client.get(f"http://127.0.0.1:{proxy.port}/x/info", headers={name: value}).status_code == 404
