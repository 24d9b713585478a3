"""The WebSocket transport over real sockets: RFC 6455 inbound, close codes, floods."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests import admin_pages
from tests.conftest import StartServer
from tests.token_client import SECRET
from tests.transports.in_process import UPGRADE, Stage, play
from tests.transports.messages import publish, texts
from tests.waiting import PATIENCE_S
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Origin

from channelstream.core.connection import ConnectionState
from channelstream.errors import ChannelstreamError, Invalid, Moved, Replaced, Unauthorized, Unavailable
from channelstream.transports.reading import NO_CHANGE, Change
from channelstream.transports.websocket import LARGE_CHUNK_BYTES, TURN_S, WebSocketStream
from channelstream.wire.frames import close_frame

BAD_FRAMES = [
    (0xC1, b"reserved bit", 1002),
    (0x83, b"reserved opcode", 1002),
    (0x8B, b"reserved control opcode", 1002),
    (0x80, b"continues nothing", 1002),
    (0x09, b"fragmented ping", 1002),
    (0x89, b"x" * 126, 1002),
    (0x88, b"x", 1002),
    (0x88, (1005).to_bytes(2, "big"), 1002),
    (0x81, b"\xff\xfe", 1007),
    (0x88, (1000).to_bytes(2, "big") + b"\xff", 1007),
    (0x81, b"x" * 131_073, 1009),
]


@pytest.mark.parametrize(("first", "payload", "code"), BAD_FRAMES)
def test_a_faulty_frame_ends_the_stream_with_its_code(
    server: Any, clients: Any, masked: Any, channel: str, first: int, payload: bytes, code: int
) -> None:
    """A faulty frame ends the stream with the code RFC 6455 names for it."""
    stream = clients.ws(server.port, f"conn_id={server.connect('ann', channel)}")
    stream.send(masked(payload, first))
    assert stream.close_code() == code
    assert stream.rest() == b""


def test_an_unmasked_frame_ends_the_stream(server: Any, clients: Any, masked: Any, channel: str) -> None:
    """A frame without a mask ends the stream with 1002."""
    stream = clients.ws(server.port, f"conn_id={server.connect('ann', channel)}")
    stream.send(masked(b"hello", mask=False))
    assert stream.close_code() == 1002


def test_a_message_inside_a_fragmented_one_ends_the_stream(
    server: Any, clients: Any, masked: Any, channel: str
) -> None:
    """A new message before the last fragment of another ends the stream with 1002."""
    stream = clients.ws(server.port, f"conn_id={server.connect('ann', channel)}")
    stream.send(masked(b"one", 0x01) + masked(b"two"))
    assert stream.close_code() == 1002


def test_a_ping_between_fragments_is_answered(server: Any, clients: Any, masked: Any, channel: str) -> None:
    """A ping between fragments is answered, the message is ignored, and the stream continues."""
    stream = clients.ws(server.port, f"conn_id={server.connect('ann', channel)}&since=")
    stream.items()
    stream.send(masked(b"one", 0x01) + masked(b"beat", 0x89) + masked(b"two", 0x80))
    assert stream.answer() == (0x8A, b"beat")
    publish(server, channel, "still here")
    assert texts(stream.items()) == ["still here"]


def test_bytes_after_the_handshake_are_frames(server: Any, clients: Any, masked: Any, channel: str) -> None:
    """Bytes behind the handshake in the same packet are read as frames."""
    query = f"conn_id={server.connect('ann', channel)}"
    stream = clients.ws(server.port, query, early=masked(b"early", 0x89))
    assert stream.answer() == (0x8A, b"early")


@pytest.mark.parametrize("payload", [b"", (1000).to_bytes(2, "big"), (4321).to_bytes(2, "big")])
def test_a_close_frame_is_answered_with_its_code(
    server: Any, clients: Any, masked: Any, channel: str, payload: bytes
) -> None:
    """A close frame is answered with its code, or none where it has none, and the socket ends."""
    stream = clients.ws(server.port, f"conn_id={server.connect('ann', channel)}")
    stream.send(masked(payload, 0x88))
    assert stream.answer() == (0x88, payload)
    assert stream.rest() == b""


@pytest.mark.parametrize("query", ["conn_id=unknown", "conn_id=%00", "conn_id=", ""])
@pytest.mark.nodes(1, 3)
def test_an_unknown_connection_is_closed_after_the_handshake(server: Any, clients: Any, query: str) -> None:
    """An unknown, malformed or missing conn_id is answered with 4001, after the handshake browsers need for it."""
    stream = clients.ws(server.port, query)
    assert stream.head.startswith(b"HTTP/1.1 101 ")
    assert stream.close_code() == 4001
    assert stream.rest() == b""


class Full(Unavailable):
    """An error of a later version."""


class Odd(ChannelstreamError):
    """An error that no stream has had yet."""


@pytest.mark.replaces_compiled
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Unauthorized("x"), 4001),
        (Invalid({"conn_id": ["x"]}), 4001),
        (Replaced("x"), 4002),
        (Unavailable("x"), 1012),
        (Moved(), 1012),
        (Full("x"), 1012),
        (Odd("x"), 1013),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_a_refused_websocket_is_closed_with_the_code_of_its_error(
    error: ChannelstreamError, code: int
) -> None:
    """Only an error about the conn_id makes the client give it up: any new one lets it reconnect."""

    async def scenario(stage: Stage) -> None:
        def refuse(_: str) -> None:
            raise error

        stage.streams.node.connection = refuse  # type: ignore[assignment]
        stage.speak_http()
        await asyncio.get_running_loop().sock_sendall(stage.client, UPGRADE % b"c")
        async with asyncio.timeout(PATIENCE_S):
            data = b""
            while more := await asyncio.get_running_loop().sock_recv(stage.client, 65_536):
                data += more
        head, _, frame = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert frame == close_frame(code, error.message)

    play(scenario)


@pytest.mark.nodes(1, 3)
def test_a_newer_socket_replaces_the_older_one(server: Any, clients: Any, channel: str) -> None:
    """A newer socket of the same connection closes the older with 4002 and receives all that follows."""
    query = f"conn_id={server.connect('ann', channel)}&since="
    older = clients.ws(server.port, query)
    older.items()
    newer = clients.ws(server.port, query)
    newer.items()
    assert older.close_code() == 4002
    older.close()
    publish(server, channel, "for the newer")
    assert texts(newer.items()) == ["for the newer"]


def test_nothing_follows_a_close_frame(server: Any, clients: Any, masked: Any, channel: str) -> None:
    """Events after the server's close frame wait for the next stream (RFC 6455, 5.5.1)."""
    query = f"conn_id={server.connect('ann', channel)}"
    stream = clients.ws(server.port, query)
    stream.send(masked(b"", 0x83))
    assert stream.close_code() == 1002
    publish(server, channel, "too late")
    assert stream.rest() == b""
    assert texts(clients.ws(server.port, query).items()) == ["too late"]


@pytest.mark.parametrize("first", [0x81, 0x82, 0x89, 0x8A])
def test_a_flood_of_frames_ends_the_stream(
    server: Any, clients: Any, masked: Any, channel: str, first: int
) -> None:
    """More frames than allowed between two pings end the stream with 1008."""
    stream = clients.ws(server.port, f"conn_id={server.connect('ann', channel)}")
    stream.send(masked(b"x", first) * 10_000)
    assert stream.close_code() == 1008


def test_heartbeats_of_clients_are_taken_between_rare_pings(
    start_server: StartServer, clients: Any, masked: Any, channel: str
) -> None:
    """One a second, also where that is more than all frames that are allowed."""
    server = start_server(CHANNELSTREAM_PING_INTERVAL_S="600", CHANNELSTREAM_MAX_INBOUND_FRAMES="10")
    stream = clients.ws(server.port, f"conn_id={server.connect('ann', channel)}")
    stream.send(masked(b'{"type": "heartbeat"}', 0x81) * 600)
    publish(server, channel, "still there")
    assert texts(stream.items()) == ["still there"]
    stream.send(masked(b"x", 0x81))
    assert stream.close_code() == 1008


def test_a_flood_of_fragments_ends_the_stream(server: Any, clients: Any, masked: Any, channel: str) -> None:
    """Fragments count like any frame, though they complete nothing, and a signed call beside them is answered."""
    stream = clients.ws(server.port, f"conn_id={server.connect('ann', channel)}")
    stream.send(masked(b"x", 0x01) + masked(b"", 0x00) * 10_000)
    assert stream.close_code() == 1008
    assert server.post("/info", {"info": {"channels": [channel]}})


def test_one_chunk_is_read_in_many_turns(masked: Any) -> None:
    """The frames of one chunk are read in many turns of the loop, so that other tasks run in between."""

    async def scenario(stage: Stage) -> None:
        stream = await stage.opened(
            WebSocketStream(stage.streams, stage.transport, stage.connection, deflate=False)
        )
        turns, answer = 0, b""
        stream.data_received(masked(b"", 0x89) * 50)
        stream.data_received(masked(b"last", 0x89))
        while not stage.transport.is_reading():
            await asyncio.sleep(0)
            turns += 1
        while not answer.endswith(b"\x8a\x04last"):
            answer += await asyncio.get_running_loop().sock_recv(stage.client, 65_536)
        assert (answer.count(b"\x8a\x00"), turns) == (50, 51)

    play(scenario, step_s=TURN_S)


def test_other_tasks_run_after_a_large_chunk(masked: Any) -> None:
    """After a large chunk other tasks run, before the next one of the same socket."""

    async def scenario(stage: Stage) -> None:
        stream = await stage.opened(
            WebSocketStream(stage.streams, stage.transport, stage.connection, deflate=False)
        )
        stream.data_received(masked(b"x" * LARGE_CHUNK_BYTES, 0x82))
        assert not stage.transport.is_reading()
        await stage.until(stage.transport.is_reading)

    play(scenario, step_s=0.0)


def test_a_message_at_the_limit_is_ignored(server: Any, clients: Any, masked: Any, channel: str) -> None:
    """A message of exactly the allowed length is ignored like any other."""
    stream = clients.ws(server.port, f"conn_id={server.connect('ann', channel)}")
    stream.send(masked(b"x" * 131_072) + masked(b"", 0x89))
    assert stream.answer() == (0x8A, b"")


@pytest.mark.nodes(1, 3)
def test_disconnect_closes_the_socket(server: Any, clients: Any, channel: str) -> None:
    """`/disconnect` closes the socket with 1000 and the id is unknown from then on."""
    conn_id = server.connect("ann", channel)
    stream = clients.ws(server.port, f"conn_id={conn_id}&since=")
    stream.items()
    assert server.post("/disconnect", {"conn_id": conn_id}) is True
    assert stream.close_code() == 1000
    assert clients.ws(server.port, f"conn_id={conn_id}").close_code() == 4001


def test_another_version_is_answered_with_the_supported_one(server: Any, clients: Any) -> None:
    """A handshake of another version is answered with the supported one (RFC 6455, 4.4)."""
    raw = clients.raw(server.port)
    raw.send(
        b"GET /ws?conn_id=x HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 8\r\n\r\n"
    )
    head = raw.rest().lower()
    assert head.startswith(b"http/1.1 426 ")
    assert b"\r\nsec-websocket-version: 13\r\n" in head


def test_a_plain_get_is_answered_426(server: Any) -> None:
    """A request that asks for no upgrade is answered 426 with the upgrade to ask for."""
    response = server.request("GET", "/ws?conn_id=x")
    assert (response.status_code, response.headers["upgrade"]) == (426, "websocket")


def test_a_foreign_origin_opens_no_stream(own_server: Any, channel: str) -> None:
    """A page of an origin that is not allowed is sent the reason, before anything waits for it: it sees no HTTP status."""
    server = own_server("--allow-cors", "https://a.example", "-s", SECRET, "--token-max-age-s", "600")
    server.secret = SECRET
    conn_id = server.connect("ann", channel)
    for query in ("conn_id=x", f"conn_id={conn_id}", "token=x", ""):
        address = f"{server.ws_url}/ws?{query}"
        refused = pytest.raises(ConnectionClosed, match=r"1008.*This origin may not open streams")
        with connect(address, origin=Origin("https://a.example.evil")) as stream, refused:
            stream.recv(PATIENCE_S)
    with connect(f"{server.ws_url}/ws?conn_id={conn_id}", origin=Origin("https://a.example")) as stream:
        publish(server, channel, "hi")
        assert texts(json.loads(stream.recv(PATIENCE_S))) == ["hi"]
    rows = admin_pages.rows(server, "refused")
    assert [(row["route"], row["code"], row["count"]) for row in rows] == [("/ws", "forbidden", 4)]


def test_long_messages_are_compressed_where_both_sides_agree(own_server: Any) -> None:
    """Where the option is on and the client offers it, long messages travel compressed, both ways; short ones plain."""
    running = own_server("--compression", "true")
    conn_id = running.connect("zip", "zip")
    texts = ["short", "long " * 200]
    with connect(f"{running.ws_url}/ws?conn_id={conn_id}", compression="deflate") as socket:
        assert "permessage-deflate" in socket.response.headers["Sec-WebSocket-Extensions"]
        socket.send("x" * 1000)
        for text in texts:
            running.post("/message", {"channel": "zip", "user": "x", "message": text})
        received: list[Any] = []
        while len(received) < 2:
            received += [item["message"] for item in json.loads(socket.recv(timeout=PATIENCE_S))]
    assert received == texts


def test_no_compression_by_default(server: Any) -> None:
    """An offer is declined in silence (RFC 6455, 9.1)."""
    conn_id = server.connect("plain", "plain")
    with connect(f"{server.ws_url}/ws?conn_id={conn_id}", compression="deflate") as socket:
        assert "Sec-WebSocket-Extensions" not in socket.response.headers


def test_changes_of_a_stream_are_made_one_after_the_other() -> None:
    """From wherever they come: each is made while the stream is stalled, and it goes on after one that fails."""

    async def scenario(stage: Stage) -> None:
        stream: WebSocketStream = await stage.opened(
            WebSocketStream(stage.streams, stage.transport, stage.connection, deflate=False)
        )
        gate, made = asyncio.Event(), list[int]()

        def change(number: int) -> Callable[[], Awaitable[Change]]:
            async def make() -> Change:
                await gate.wait()
                assert stage.connection.state is ConnectionState.CATCHING_UP
                made.append(number)
                if number == 1:
                    raise LookupError
                return NO_CHANGE

            return make

        changes = [asyncio.create_task(stream.change(change(number))) for number in range(3)]
        await asyncio.sleep(0)
        gate.set()
        results = await asyncio.gather(*changes, return_exceptions=True)
        assert made == [0, 1, 2]
        assert [type(each) for each in results] == [type(None), LookupError, type(None)]
        await stage.until(lambda: stage.connection.state is ConnectionState.LIVE)

    play(scenario)
