"""How often strangers may open streams, over real sockets, by their addresses and those that a proxy reports."""

import asyncio
import json
import socket
from collections.abc import Iterator
from threading import Event
from uuid import uuid4

import httpx
import pytest
from tests import admin_pages
from tests.conftest import RunningServer, StartServer
from tests.http_client import http
from tests.pusher_calls import KIT
from tests.strangers import PROXY, limited, new_address, server_with_strangers, through_proxy
from tests.token_client import token
from tests.waiting import PATIENCE_S
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from channelstream_client import Down, Listening, Resumed

TEXT = "This address opens too many streams; try again later."
UNKNOWN = {"conn_id": "unknown"}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """Return a server that also has callers at other addresses of the machine."""
    with server_with_strangers(CHANNELSTREAM_UNLIMITED_ADDRESSES="127.0.0.1, 192.0.2.0/24") as running:
        yield running


@pytest.fixture
def address() -> str:
    """Return an address that has opened nothing yet."""
    return new_address()


def websocket(url: str, address: str) -> ClientConnection:
    """Return a WebSocket that a proxy opens for an address."""
    return connect(
        url,
        additional_headers={"x-forwarded-for": address},
        source_address=(PROXY, 0),
        compression=None,
    )


def end(stream: ClientConnection) -> tuple[int, str]:
    """Return how the server closes a WebSocket."""
    with stream, pytest.raises(ConnectionClosed) as closed:
        stream.recv(PATIENCE_S)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


def native(server: RunningServer, address: str, query: str = "conn_id=unknown") -> ClientConnection:
    """Return a WebSocket of our own protocols."""
    return websocket(f"{server.ws_url}/ws?{query}", address)


def poll(server: RunningServer, address: str, **query: str) -> httpx.Response:
    with through_proxy(server, address) as proxy:
        return proxy.get("/listen", params=UNKNOWN | query)


def test_an_address_opens_only_so_many_streams(server: RunningServer, address: str) -> None:
    """Of all transports together. A page sees why, and its client comes back later; other addresses go on."""
    before = limited(server, "stream")
    assert end(native(server, address))[0] == 4001
    assert poll(server, address).status_code == 401
    assert end(native(server, address)) == (1013, TEXT)
    with through_proxy(server, address) as proxy:
        for path in ("/sse", "/listen"):
            answer = proxy.get(path, params=UNKNOWN)
            assert (answer.status_code, answer.json()["code"]) == (429, "too_many_requests")
            assert 0 < int(answer.headers["retry-after"]) <= 50
            assert answer.headers["access-control-allow-origin"] == "*"
    assert end(native(server, "198.51.101.1"))[0] == 4001
    assert limited(server, "stream") == before + 3


def test_refused_streams_are_among_the_refused_requests(server: RunningServer, address: str) -> None:
    """On the overview of the admin pages, with the address."""
    for _ in range(4):
        end(native(server, address))
    rows = [row for row in admin_pages.rows(server, "refused") if row["address"] == address]
    assert [(row["route"], row["status"], row["code"], row["count"]) for row in rows] == [
        ("/ws", 429, "too_many_requests", 2),
        ("/ws", 401, "unknown_connection", 2),
    ]


def test_a_client_with_a_token_opens_only_so_many_streams(server: RunningServer, address: str) -> None:
    """Whether its token comes with the request or with the first text; those that are open stay."""
    given = token(uuid4().hex, channels=["room"])
    with native(server, address, f"token={given}") as open_stream:
        assert json.loads(open_stream.recv(PATIENCE_S))[0]["type"] == "reply"
        with native(server, address, "") as silent:
            assert end(native(server, address, f"token={given}")) == (1013, TEXT)
            assert end(native(server, address, "")) == (1013, TEXT)
            silent.send(json.dumps({"id": 1, "type": "connect", "token": given}))
            assert json.loads(silent.recv(PATIENCE_S))[0]["id"] == 1
        open_stream.ping().wait(PATIENCE_S)


def test_a_client_of_pusher_comes_back_later(server: RunningServer, address: str) -> None:
    """It gets the close code of a full server."""
    url = f"{server.ws_url}/app/{KIT['KEY']}?protocol=7"
    with websocket(url, address), websocket(url, address):
        assert end(websocket(url, address))[0] == 4100


def test_polls_of_a_known_connection_are_free(server: RunningServer, address: str) -> None:
    """Each is a request of its own; only what begins with one that is not known here counts."""
    opened = server.post("/connect", {"username": uuid4().hex, "channels": ["room"]})
    server.post("/message", {"user": "bob", "channel": "room", "message": "missed"})
    known = {"conn_id": opened["conn_id"], "since": opened["position"]}
    assert [poll(server, address, **known).status_code for _ in range(5)] == [200] * 5
    assert [poll(server, address).status_code for _ in range(3)] == [401, 401, 429]
    assert poll(server, address, **known).status_code == 200


def test_polls_that_name_the_connection_of_another_client_are_not(
    server: RunningServer, address: str
) -> None:
    """Each makes a new one, since its token is another user's."""
    room = uuid4().hex
    [greeting, *_] = poll(server, address, conn_id="", token=token(uuid4().hex, channels=[room])).json()
    conn_id = greeting["result"]["conn_id"]
    other = token(uuid4().hex, channels=[room])
    answers = [poll(server, address, conn_id=conn_id, token=other) for _ in range(2)]
    assert answers[0].json()[0]["result"]["conn_id"] != conn_id
    assert answers[1].status_code == 429


def test_an_ipv6_network_is_one_address(server: RunningServer) -> None:
    """A host has a whole /64. What a proxy hides is one address as well."""
    found = [poll(server, f"2001:db8::{number}").status_code for number in range(3)]
    assert found == [401, 401, 429]
    assert poll(server, "2001:db8:0:1::1").status_code == 401
    assert [poll(server, each).status_code for each in ("unknown", "_hidden", "no address")] == [
        401,
        401,
        429,
    ]


def test_some_addresses_open_as_many_as_they_like(server: RunningServer) -> None:
    """Those of the option, that of the proxy itself, which names nobody, and no others of the machine."""
    named = [poll(server, "192.0.2.7").status_code for _ in range(5)]
    local = [http.get(f"{server.url}/listen", params=UNKNOWN).status_code for _ in range(5)]
    with httpx.Client(transport=httpx.HTTPTransport(local_address=PROXY), timeout=PATIENCE_S) as proxy:
        own = [proxy.get(f"{server.url}/listen", params=UNKNOWN).status_code for _ in range(5)]
    assert named == local == own == [401] * 5
    with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.3"), timeout=PATIENCE_S) as other:
        found = [other.get(f"{server.url}/listen", params=UNKNOWN).status_code for _ in range(3)]
    assert found == [401, 401, 429]


def test_very_many_addresses_are_counted_apart(server: RunningServer) -> None:
    """Each of some hundreds opens as many as it may, and the one that has opened too many stays refused."""

    def ask(address: str) -> bytes:
        with socket.create_connection(
            ("127.0.0.1", server.port), PATIENCE_S, source_address=(address, 0)
        ) as line:
            line.sendall(b"GET /listen?conn_id=unknown HTTP/1.1\r\nHost: push\r\n\r\n")
            return line.recv(4096).split(b" ")[1]

    assert [ask("127.0.1.1") for _ in range(3)] == [b"401", b"401", b"429"]
    for number in range(400):
        assert ask(f"127.1.{number >> 8}.{number & 255}") == b"401"
    assert ask("127.0.1.1") == b"429"


def test_our_client_comes_back_to_the_same_transport(start_server: StartServer) -> None:
    """A WebSocket that is refused is no fault of the transport: the client waits, and tries it again."""
    server = start_server(
        CHANNELSTREAM_UNLIMITED_ADDRESSES="192.0.2.1", CHANNELSTREAM_MAX_ADDRESS_STREAM_RATE="0.5"
    )
    conn_id, is_refused = server.connect("ann", "room"), Event()

    def ask() -> int:
        return http.get(f"{server.url}/listen", params=UNKNOWN).status_code

    def stay_at_the_limit() -> None:
        while not is_refused.is_set():
            ask()

    downs: list[Down] = []

    def note(down: Down) -> None:
        downs.append(down)
        is_refused.set()

    async def scenario() -> None:
        others = asyncio.create_task(asyncio.to_thread(stay_at_the_limit))
        async with Listening(server.url, conn_id, on_down=note) as listening:
            assert isinstance(await anext(listening), Resumed)
        assert downs
        assert {(down.code, down.reason.removesuffix(" (1013)")) for down in downs} == {(1013, TEXT)}
        await others

    while ask() != 429:
        pass  # There are 50 at once.
    asyncio.run(asyncio.wait_for(scenario(), PATIENCE_S))
