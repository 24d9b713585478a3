"""Clients with tokens over real sockets: how they open streams, and how long these last."""

import json
import signal
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests import admin_pages
from tests.conftest import RunningServer, StartServer
from tests.http_client import http
from tests.streams import next_items, sse_items
from tests.token_client import SECRET, TokenClient, token
from tests.waiting import PATIENCE_S
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Origin


def publish(server: RunningServer, channel: str, message: Any) -> None:
    server.post("/message", {"user": "system", "channel": channel, "message": message})


def test_a_token_opens_a_connection_that_its_application_has_not_registered(
    pushing: RunningServer, room: str
) -> None:
    """It is in the channels of the token, and is sent what comes there."""
    with closing(TokenClient(pushing.ws_url, token(channels=[room], state={"a": 1}, public=["a"]))) as client:
        assert client.greeting["user"] == "ann"
        assert client.greeting["channels"] == [room]
        assert 590 <= client.greeting["expires_in"] <= 600
        publish(pushing, room, "hello")
        assert client.message() == "hello"
        info = pushing.post("/info", {"channels": [room]})
        assert [each["user"] for each in info["channels"][room]["users"]] == ["ann"]
        assert [each["state"] for each in info["users"]] == [{"a": 1}]


def test_a_client_comes_back_to_its_connection(pushing: RunningServer, room: str) -> None:
    """With token, conn_id and position: it is in the channels that it has joined, and misses nothing."""
    given = token(channels=[room], subscribe=["room.*"])
    client = TokenClient(pushing.ws_url, given)
    client.command("subscribe", channels=[f"{room}x"])
    publish(pushing, room, 1)
    position = client.until(lambda item: item["type"] == "message")["position"]
    client.stream.socket.close()
    publish(pushing, f"{room}x", 2)
    conn_id = client.greeting["conn_id"]
    with closing(TokenClient(pushing.ws_url, given, conn_id=conn_id, since=position)) as again:
        assert again.greeting["conn_id"] == conn_id
        assert again.greeting["channels"] == [room, f"{room}x"]
        assert again.message() == 2


def test_a_connection_of_another_user_is_as_an_unknown_one(pushing: RunningServer, room: str) -> None:
    """A new one is made, with what came since the position, and nobody learns that the other is there."""
    with closing(TokenClient(pushing.ws_url, token("bob", channels=[room]))) as client:
        publish(pushing, room, 1)
        position = client.until(lambda item: item["type"] == "message")["position"]
        publish(pushing, room, 2)
        asked = {"conn_id": client.greeting["conn_id"], "since": position}
        with closing(TokenClient(pushing.ws_url, token(channels=[room]), **asked)) as other:
            assert other.greeting["conn_id"] != client.greeting["conn_id"]
            assert other.message() == 2


def test_a_connection_of_a_token_needs_one_for_each_stream(pushing: RunningServer) -> None:
    """Its conn_id alone opens none, on any transport."""
    with closing(TokenClient(pushing.ws_url, token())) as client:
        query = f"conn_id={client.greeting['conn_id']}"
        for path in ("sse", "listen"):
            assert http.get(f"{pushing.url}/{path}?{query}").json()["close_code"] == 4001
        with connect(f"{pushing.ws_url}/ws?{query}") as stream, pytest.raises(ConnectionClosed, match="4001"):
            stream.recv(PATIENCE_S)


def test_an_empty_token_opens_nothing(pushing: RunningServer) -> None:
    """Also beside the conn_id of a connection that needs no token."""
    query = f"conn_id={pushing.post('/connect', {'username': 'ann'})['conn_id']}&token="
    for path in ("sse", "listen"):
        with http.stream("GET", f"{pushing.url}/{path}?{query}") as answer:
            assert answer.status_code == 401
    with connect(f"{pushing.ws_url}/ws?{query}") as stream, pytest.raises(ConnectionClosed, match="4003"):
        stream.recv(PATIENCE_S)


REFUSED = [
    ({"secret": "another secret of thirty-two bytes"}, 4003),
    ({"life_s": -1}, 4003),
    ({"life_s": 4000}, 4003),
    ({"channels": [f"c{number}" for number in range(1001)]}, 4003),
]


@pytest.mark.parametrize(("claims", "code"), REFUSED)
def test_a_token_that_is_not_accepted_opens_nothing(
    pushing: RunningServer, claims: dict[str, Any], code: int
) -> None:
    """In the first text, in the query, and in a header."""
    given = token(**claims)
    with connect(f"{pushing.ws_url}/ws") as stream:
        stream.send(json.dumps({"type": "connect", "token": given}))
        with pytest.raises(ConnectionClosed, match=str(code)):
            stream.recv(PATIENCE_S)
    for path in ("sse", "listen"):
        bearer = {"authorization": f"Bearer {given}"}
        answers = [
            http.get(f"{pushing.url}/{path}", params={"token": given}),
            http.get(f"{pushing.url}/{path}", headers=bearer),
        ]
        assert [(each.status_code, each.json()["close_code"]) for each in answers] == [(401, code)] * 2


def test_a_token_that_names_more_channels_than_a_connection_may_have(start_server: StartServer) -> None:
    """Its client needs another token, as after any other faulty claim: it would come back with this one without end."""
    server = start_server(
        "-s", SECRET, CHANNELSTREAM_TOKEN_MAX_AGE_S="3600", CHANNELSTREAM_MAX_CHANNELS_PER_CONNECTION="2"
    )
    given = token(channels=["a", "b", "c"])
    with pytest.raises(ConnectionClosed, match=r"4003.*A connection may have at most 2 channels\."):
        TokenClient(server.ws_url, given)
    with closing(TokenClient(server.ws_url, token(channels=["a"], subscribe=["b"]))) as client:
        client.command("subscribe", channels=["b"])
        conn_id = client.greeting["conn_id"]
        client.stream.close(1001)
    with pytest.raises(ConnectionClosed, match=r"4003.*A connection may have at most 2 channels\."):
        TokenClient(server.ws_url, given, conn_id=conn_id)
    asked: list[dict[str, str]] = [{"token": given}, {"token": given, "conn_id": conn_id}]
    answers = [http.get(f"{server.url}/{path}", params=each) for path in ("sse", "listen") for each in asked]
    assert [(each.status_code, each.json()["close_code"]) for each in answers] == [(401, 4003)] * 4


@pytest.mark.parametrize("transport", ["ws", "listen"])
def test_a_connection_for_whose_channels_a_fresh_token_has_no_room_is_as_unknown(
    start_server: StartServer, transport: str
) -> None:
    """Its client gets a new one, in the channels that the token names, and subscribes to its own again."""
    server = start_server(
        "-s", SECRET, CHANNELSTREAM_TOKEN_MAX_AGE_S="3600", CHANNELSTREAM_MAX_CHANNELS_PER_CONNECTION="2"
    )
    with closing(TokenClient(server.ws_url, token(channels=["a"], subscribe=["b"]))) as client:
        client.command("subscribe", channels=["b"])
        conn_id = client.greeting["conn_id"]
        client.stream.close(1001)
    fresh = token(channels=["a", "c"], subscribe=["b"])
    if transport == "ws":
        with closing(TokenClient(server.ws_url, fresh, conn_id=conn_id)) as client:
            greeting = client.greeting
    else:
        asked = {"token": fresh, "conn_id": conn_id, "since": ""}
        greeting = http.get(f"{server.url}/listen", params=asked).json()[0]["result"]
    assert greeting["channels"] == ["a", "c"]
    assert greeting["conn_id"] != conn_id


@pytest.mark.parametrize("path", ["/sse", "/listen", "/client", "/ws"])
def test_where_no_tokens_are_accepted_the_answer_says_so(server: RunningServer, path: str) -> None:
    """And names the option: the fault is not the client's."""
    text = "This server accepts no tokens; see the option token_max_age_s."
    for headers, query in (({"authorization": f"Bearer {token()}"}, ""), ({}, f"?token={token()}")):
        if path == "/ws":
            with (
                connect(f"{server.ws_url}/ws{query}", additional_headers=headers) as stream,
                pytest.raises(ConnectionClosed) as closed,
            ):
                stream.recv(PATIENCE_S)
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4003, text)
        else:
            method = "POST" if path == "/client" else "GET"
            answer = http.request(method, f"{server.url}{path}{query}", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "bad_token")
            assert text in answer.text


def test_where_no_tokens_are_accepted_one_beside_a_conn_id_is_none(server: RunningServer) -> None:
    """It may be for a proxy in front."""
    url = f"{server.url}/sse?conn_id={server.connect('ann')}"
    headers = {"authorization": "Bearer of-a-proxy"}
    with http.stream("GET", url, headers=headers) as stream:
        assert stream.status_code == 200


@pytest.mark.parametrize("shown", ["in the query", "in the first text"])
def test_a_page_of_an_origin_that_the_application_of_its_token_does_not_allow(
    tmp_path: Path, start_server: StartServer, shown: str
) -> None:
    """Where only the token names the application, the close code tells the page to stop: it would come back for ever."""
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [{"id": "web", "app": "shop", "secret": "w" * 32}]}))
    file.chmod(0o600)
    server = start_server(
        CHANNELSTREAM_APP_SHOP_SECRET="of the shop",
        CHANNELSTREAM_APP_SHOP_TOKEN_MAX_AGE_S="60",
        CHANNELSTREAM_APP_SHOP_ALLOW_CORS="https://shop.example",
        CHANNELSTREAM_KEYS_FILE=str(file),
    )
    own = jwt.encode({"sub": "ann", "exp": time.time() + 50}, "w" * 32, "HS256", {"kid": "web"})
    query = f"?token={own}" if shown == "in the query" else ""
    with connect(f"{server.ws_url}/ws{query}", origin=Origin("https://blog.example")) as stream:
        if not query:
            stream.send(json.dumps({"type": "connect", "id": 1, "token": own}))
        with pytest.raises(ConnectionClosed, match=r"1008.*This origin may not open streams"):
            stream.recv(PATIENCE_S)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"type": "subscribe", "channels": ["a"], "id": 1}', 1008),
        ("[]x", 1008),
        ('{"type": "connect"}', 1008),
    ],
)
def test_the_first_command_is_connect(pushing: RunningServer, text: str, code: int) -> None:
    """Any other ends the socket; what older clients send is ignored."""
    with connect(f"{pushing.ws_url}/ws") as stream:
        stream.send('{"type": "heartbeat"}')
        stream.send(text)
        with pytest.raises(ConnectionClosed, match=str(code)):
            stream.recv(PATIENCE_S)


def test_a_client_that_sends_no_token_is_closed(start_server: StartServer) -> None:
    """After the time that a connection may be without a stream; pings are answered until then."""
    server = start_server(
        "-s", SECRET, CHANNELSTREAM_TOKEN_MAX_AGE_S="60", CHANNELSTREAM_UNATTACHED_TIMEOUT_S="1"
    )
    # Whichever step this machine has come to.
    with connect(f"{server.ws_url}/ws") as stream, pytest.raises(ConnectionClosed, match="4001"):
        stream.ping().wait(PATIENCE_S)
        stream.send(b"binary")
        stream.send('{"type": "heartbeat"}')
        stream.recv(PATIENCE_S)
    assert server.stop()[0] == 0


@pytest.mark.parametrize(("frame", "code"), [(b"\x81\x01x", 1002), (b"\x88\x82\0\0\0\0\x03\xe8", 1000)])
def test_a_client_without_a_token_that_breaks_off(
    pushing: RunningServer, clients: Any, frame: bytes, code: int
) -> None:
    """A faulty frame, and a close frame, are answered as on a stream."""
    stream = clients.ws(pushing.port, "")
    stream.send(frame)
    assert stream.close_code() == code
    assert stream.rest() == b""


def test_a_long_poll_with_a_token_continues_its_connection(pushing: RunningServer, room: str) -> None:
    """The first answer has its conn_id, which the next ones name beside the token."""
    bearer = {"authorization": f"Bearer {token(channels=[room])}"}

    def poll(**query: str) -> list[Any]:
        found: list[Any] = http.get(f"{pushing.url}/listen", params=query, headers=bearer).json()
        return found

    greeting, resumed = poll()
    assert (greeting["type"], resumed["type"]) == ("reply", "resumed")
    publish(pushing, room, 1)
    [resumed, message] = poll(conn_id=greeting["result"]["conn_id"], since=resumed["position"])
    assert (resumed["type"], message["message"]) == ("resumed", 1)


@pytest.mark.parametrize("opening", ["first text", "query", "event stream"])
def test_a_stream_says_what_its_fresh_token_takes_away(
    opening: str, pushing: RunningServer, room: str
) -> None:
    """After the answer, so that a client that knows only this one finds it first; once, and in no other stream."""
    left, client = f"{room}.left", TokenClient(pushing.ws_url, token(channels=[room, f"{room}.left"]))
    publish(pushing, room, 1)
    position, conn_id = client.until(lambda item: "message" in item)["position"], client.greeting["conn_id"]
    client.stream.socket.close()
    publish(pushing, room, 2)
    begun = begin(pushing, opening, token(channels=[room]), conn_id, position)
    assert [each["type"] for each in begun] == ["reply", "unsubscribed", "resumed", "message"]
    assert (begun[0]["result"]["channels"], begun[1]["channels"]) == ([room], [left])
    again = begin(pushing, opening, token(channels=[room]), conn_id, position)
    assert [each["type"] for each in again] == ["reply", "resumed", "message"]


def begin(server: RunningServer, opening: str, given: str, conn_id: str, position: str) -> list[Any]:
    """Open a stream, and return its items up to a message."""
    asked = {"conn_id": conn_id, "since": position}
    found: list[Any] = []
    if opening == "event stream":
        bearer = {"authorization": f"Bearer {given}"}
        with http.stream("GET", f"{server.url}/sse", params=asked, headers=bearer) as answer:
            for item in sse_items(answer.iter_lines()):
                found.append(item)
                if item["type"] == "message":
                    return found
    query = urlencode(asked | {"token": given}) if opening == "query" else ""
    with connect(f"{server.ws_url}/ws?{query}") as stream:
        if opening == "first text":
            stream.send(json.dumps({"type": "connect", "token": given} | asked))
        while not found or found[-1]["type"] != "message":
            found += next_items(stream)
    return found


def test_a_long_poll_says_what_its_fresh_token_takes_away(pushing: RunningServer, room: str) -> None:
    """The poll may be there before the command `refresh`, whose reply has nothing to say of it then."""

    def poll(given: str, **query: str) -> list[Any]:
        bearer = {"authorization": f"Bearer {given}"}
        found: list[Any] = http.get(f"{pushing.url}/listen", params=query, headers=bearer).json()
        return found

    greeting, resumed = poll(token(channels=[room, f"{room}.left"]))
    publish(pushing, room, 1)
    back = {"conn_id": greeting["result"]["conn_id"], "since": resumed["position"]}
    [left, resumed, message] = poll(token(channels=[room]), **back)
    assert left == {"type": "unsubscribed", "channels": [f"{room}.left"], "reason": "no longer granted"}
    assert (resumed["type"], message["message"]) == ("resumed", 1)


@pytest.mark.slow
def test_a_client_is_warned_before_its_token_expires_and_closed_after(pushing: RunningServer) -> None:
    """With the code at which it comes back with a fresh token."""
    with closing(TokenClient(pushing.ws_url, token(life_s=3))) as client:
        warning = client.until(lambda item: item["type"] == "expiring")
        assert 0 < warning["seconds"] <= 3
        client.command("refresh", token=token(life_s=3))
        client.until(lambda item: item["type"] == "expiring")
        assert client.end() == (4003, "token expired")


def test_no_token_is_in_the_log(start_server: StartServer) -> None:
    """Of requests that are refused, neither."""
    server = start_server("-s", SECRET, "--debug", "yes", CHANNELSTREAM_TOKEN_MAX_AGE_S="3600")
    for given in (token(), token(secret="another secret of thirty-two bytes")):
        for path in ("sse", "listen", "client", "nothing"):
            http.head(f"{server.url}/{path}", params={"token": given})
            http.post(f"{server.url}/{path}", headers={"authorization": f"Bearer {given}"})
    code, log = server.stop()
    assert code == 0
    assert "/client?token=***" in log
    assert not [part for part in (given.split(".")[1], given.split(".")[2]) if part in log]


def test_an_identity_provider_signs_with_a_key_of_its_own(tmp_path: Path, start_server: StartServer) -> None:
    """The server reads its public keys, here from a file; nobody else's token counts as its own."""
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    file = tmp_path / "keys.pem"
    file.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    server = start_server(
        "-s", SECRET, CHANNELSTREAM_TOKEN_MAX_AGE_S="60", CHANNELSTREAM_TOKEN_ISSUERS=f"idp ES256 {file}"
    )
    claims = {"sub": "ann", "exp": time.time() + 50, "iss": "idp", "channels": ["news"]}
    with closing(TokenClient(server.ws_url, jwt.encode(claims, key, "ES256"))) as client:
        assert client.greeting["channels"] == ["news"]
    for forged in (jwt.encode(claims, other, "ES256"), token(iss="idp", life_s=50)):
        answer = http.get(f"{server.url}/sse", params={"token": forged})
        assert answer.json()["code"] == "bad_token"


def test_streams_end_whose_key_is_taken_away(tmp_path: Path, start_server: StartServer) -> None:
    """Who has had its secret could have signed tokens for all users; those of other keys go on."""
    file = tmp_path / "keys.json"
    secrets = {"web": "w" * 32, "cron": "c" * 32}

    def write(*ids: str) -> None:
        file.write_text(json.dumps({"keys": [{"id": each, "secret": secrets[each]} for each in ids]}))
        file.chmod(0o600)

    write("web", "cron")
    server = start_server("-s", SECRET, CHANNELSTREAM_TOKEN_MAX_AGE_S="60", CHANNELSTREAM_KEYS_FILE=str(file))
    claims = {"sub": "ann", "exp": time.time() + 50, "publish": ["news"]}
    given = [jwt.encode(claims, secrets[each], "HS256", {"kid": each}) for each in secrets]
    given.append(token(life_s=50, publish=["news"]))
    with ExitStack() as exits:
        web, cron, own = (exits.enter_context(closing(TokenClient(server.ws_url, each))) for each in given)
        write("cron")
        server.process.send_signal(signal.SIGHUP)
        assert web.end() == (4003, "token revoked")
        for client in (cron, own):
            assert "uuid" in client.command("publish", channel="news", message=1)


def test_a_key_of_an_application_signs_for_it(tmp_path: Path, start_server: StartServer) -> None:
    """Its id is the header kid of the token, which also names the application; it grants what the key may do."""
    file = tmp_path / "keys.json"
    secrets = {"web": "w" * 32, "reader": "r" * 32}
    keys = [
        {"id": "web", "app": "shop", "secret": secrets["web"], "rights": ["connect", "publish"]},
        {"id": "reader", "app": "shop", "secret": secrets["reader"], "rights": ["connect"]},
    ]
    file.write_text(json.dumps({"keys": keys}))
    file.chmod(0o600)
    server = start_server(
        CHANNELSTREAM_APP_SHOP_SECRET="of the shop",
        CHANNELSTREAM_APP_SHOP_TOKEN_MAX_AGE_S="60",
        CHANNELSTREAM_KEYS_FILE=str(file),
    )
    claims = {"sub": "ann", "exp": time.time() + 50, "publish": ["news"]}
    given = {each: jwt.encode(claims, secrets[each], "HS256", {"kid": each}) for each in secrets}
    for ws_url in (server.ws_url, f"{server.ws_url}/app/shop"):
        with closing(TokenClient(ws_url, given["web"])) as client:
            assert client.greeting["conn_id"].startswith("shop.")
            assert "uuid" in client.command("publish", channel="news", message=1)
    answers = {
        name: http.get(f"{server.url}/sse", params={"token": each})
        for name, each in (
            ("reader", given["reader"]),
            ("no key", jwt.encode(claims, secrets["web"], "HS256")),
            ("another's secret", jwt.encode(claims, secrets["web"], "HS256", {"kid": "reader"})),
        )
    }
    codes = {name: each.json()["code"] for name, each in answers.items()}
    assert codes == {"reader": "forbidden", "no key": "bad_token", "another's secret": "bad_token"}
    assert [each.json()["close_code"] for each in answers.values()] == [4003] * 3
    with pytest.raises(ConnectionClosed, match=r"4003.*lacks the right 'publish'"):
        TokenClient(server.ws_url, given["reader"])


def test_refused_streams_are_among_the_refused_requests(start_server: StartServer) -> None:
    """On the overview of the admin pages: by their connection, by a token in the query, and by one in the first text."""
    server = start_server("-s", SECRET, "--token-max-age-s", "600")
    server.secret = SECRET
    for query, text in (("conn_id=unknown", ""), ("token=x", ""), ("", '{"type": "connect", "token": "x"}')):
        with connect(f"{server.ws_url}/ws?{query}") as stream:
            if text:
                stream.send(text)
            with pytest.raises(ConnectionClosed, match=r"4001|4003"):
                stream.recv(PATIENCE_S)
    rows = admin_pages.rows(server, "refused")
    assert sorted((row["route"], row["status"], row["code"], row["count"]) for row in rows) == [
        ("/ws", 401, "bad_token", 2),
        ("/ws", 401, "unknown_connection", 1),
    ]
