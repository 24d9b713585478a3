"""Further applications of one server: each is reached below its own path, or by what a request shows."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests import admin_pages
from tests.applications import app_of, launch_apps, without_prefix
from tests.conftest import RunningServer
from tests.http_client import http
from tests.streams import next_items
from tests.waiting import PATIENCE_S
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

KEY = "a key of 32 bytes or more, at last"
PAGE, FOREIGN = "https://shop.example", "https://blog.example"


@pytest.fixture(scope="module")
def running() -> Iterator[RunningServer]:
    server = launch_apps(CHANNELSTREAM_APP_SHOP_ALLOW_CORS=PAGE, CHANNELSTREAM_APP_SHOP_MAX_MESSAGES="2")
    yield server
    code, log = server.stop()
    assert (code, "Traceback" in log) == (0, False), log


def texts(items: list[Any]) -> list[Any]:
    return [item["message"]["text"] for item in items if item["type"] == "message"]


def message(text: str) -> dict[str, Any]:
    return {"user": "ann", "channel": "room", "message": {"text": text}}


def test_an_application_has_its_calls_and_streams_below_its_path(running: RunningServer) -> None:
    """What one publishes is received by its own connections only, though all names are the same."""
    apps = [running, app_of(running, "shop"), app_of(running, "blog")]
    with ExitStack() as stack:
        streams = [
            stack.enter_context(connect(f"{app.ws_url}/ws?conn_id={app.connect('ann', 'room', conn_id='c')}"))
            for app in apps
        ]
        for number, app in enumerate(apps):
            app.post("/message", message(f"from {number}"))
        assert [texts(next_items(stream)) for stream in streams] == [["from 0"], ["from 1"], ["from 2"]]
        rooms = [app.request("GET", "/info").json()["channels"]["room"] for app in apps]
        assert [len(room["users"]) for room in rooms] == [1, 1, 1]
        assert [app.post("/disconnect?conn_id=c") for app in apps] == [True, True, True]


def test_a_signature_is_valid_for_its_own_application_only(running: RunningServer) -> None:
    """That of one application is refused below the path of another, and without a path."""
    shop, blog = app_of(running, "shop"), app_of(running, "blog")
    signed = shop.sign("/info")
    assert http.get(f"{shop.url}/info", headers=signed).status_code == 200
    answers = [http.get(f"{app.url}/info", headers=signed) for app in (running, blog, without_prefix(shop))]
    assert {(answer.status_code, answer.text) for answer in answers} == {(401, answers[0].text)}


def test_an_id_of_another_application_is_unknown(running: RunningServer) -> None:
    """On streams and calls, in the answer that an unknown id gets."""
    shop, blog = app_of(running, "shop"), app_of(running, "blog")
    conn_id = shop.connect("ann")
    for query in (conn_id, "none"):
        with (
            connect(f"{blog.ws_url}/ws?conn_id={query}") as stream,
            pytest.raises(ConnectionClosed) as closed,
        ):
            stream.recv(PATIENCE_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4001
    said = [http.get(f"{blog.url}/listen?conn_id={query}") for query in (conn_id, "none")]
    assert said[0].status_code == 401
    assert said[0].text == said[1].text
    assert blog.post(f"/disconnect?conn_id={conn_id}") is False
    assert shop.post(f"/disconnect?conn_id={conn_id}") is True


def test_an_id_that_the_server_has_drawn_finds_its_application_without_a_path(running: RunningServer) -> None:
    """On all transports, and when it ends."""
    shop = app_of(running, "shop")
    conn_id = shop.connect("ann", "room")
    assert conn_id.startswith("shop.")
    polled = http.get(f"{running.url}/listen?conn_id={conn_id}&since=").json()
    assert polled[0]["type"] == "resumed"
    with http.stream("GET", f"{running.url}/sse?conn_id={conn_id}") as events:
        assert events.headers["content-type"].startswith("text/event-stream")
    with connect(f"{running.ws_url}/ws?conn_id={conn_id}") as stream:
        shop.post("/message", message("hello"))
        assert texts(next_items(stream)) == ["hello"]
        assert http.get(f"{running.url}/disconnect?conn_id={conn_id}").json() is True


def test_an_id_that_an_application_has_chosen_needs_its_path(running: RunningServer) -> None:
    """Without it the id is one of the default application."""
    shop = app_of(running, "shop")
    shop.connect("ann", conn_id="chosen")
    assert http.get(f"{running.url}/listen?conn_id=chosen").status_code == 401
    assert http.get(f"{running.url}/disconnect?conn_id=chosen").json() is False
    assert http.get(f"{shop.url}/disconnect?conn_id=chosen").json() is True


def test_the_default_application_chooses_no_id_of_another_one(running: RunningServer) -> None:
    """Its streams would look for the connection there. Below a path of its own every application chooses freely."""
    body = {"username": "ann", "conn_id": "shop.chosen"}
    refused = running.request("POST", "/connect", body)
    assert (refused.status_code, list(refused.json()["faults"])) == (422, ["conn_id"])
    assert running.request("POST", "/connect", body | {"conn_id": "nobody.chosen"}).status_code == 200
    for app_id in ("shop", "blog"):
        assert app_of(running, app_id).post("/connect", body)["conn_id"] == "shop.chosen"


def test_pages_of_other_origins_are_those_of_the_application(running: RunningServer) -> None:
    """Below its path, and where a connection id names it."""
    shop = app_of(running, "shop")
    conn_id = shop.connect("ann")
    for base in (shop.url, running.url):
        for path in (f"/listen?conn_id={conn_id}", f"/sse?conn_id={conn_id}"):
            assert allowed(base + path, PAGE) == PAGE
            assert allowed(base + path, FOREIGN) is None
        address = f"{base.replace('http', 'ws')}/ws?conn_id={conn_id}"
        with connect(address, origin=FOREIGN) as stream, pytest.raises(ConnectionClosed, match="1008"):
            stream.recv(PATIENCE_S)
    assert allowed(f"{running.url}/listen", FOREIGN) == "*"
    assert allowed(f"{app_of(running, 'blog').url}/listen", FOREIGN) == "*"


def allowed(url: str, origin: str) -> str | None:
    """Return the origin that an answer allows."""
    return http.options(url, headers={"origin": origin}).headers.get("access-control-allow-origin")


def test_limits_are_those_of_the_application(running: RunningServer) -> None:
    """The other ones have theirs."""
    three = [message("a")] * 3
    assert app_of(running, "shop").request("POST", "/message", three).status_code == 422
    assert app_of(running, "blog").request("POST", "/message", three).status_code == 200


def test_paths_below_no_application_are_unknown(running: RunningServer) -> None:
    """Also probes, which are those of the server. The id alone is where Pusher's clients open a WebSocket."""
    for path in ("/app/none/info", "/app/shop", "/app/shop/nothing", "/app/shop/healthz", "/app//info"):
        answer = http.get(running.url + path)
        assert answer.status_code == (426 if path == "/app/shop" else 404), path


def test_a_proxy_may_add_a_prefix() -> None:
    """Before that of the application, whether it leaves it in the path or not."""
    server = launch_apps(CHANNELSTREAM_TRUSTED_PROXIES="127.0.0.1")
    try:
        shop = app_of(server, "shop")
        for path in ("/app/shop/info", "/push/app/shop/info"):
            headers = {**shop.sign("/info"), "x-script-name": "/push"}
            assert http.get(server.url + path, headers=headers).status_code == 200
    finally:
        server.stop()


def test_a_refusal_in_the_log_names_the_application() -> None:
    """So its operator is found."""
    server = launch_apps()
    try:
        http.post(f"{app_of(server, 'blog').url}/message")
        assert "refused 'POST /message of application blog' from '127.0.0.1': 403" in server.log()
    finally:
        server.stop()


def test_a_server_without_sections_has_no_such_paths(start_server: Any) -> None:
    """And draws ids as before."""
    server = start_server()
    assert server.request("GET", "/app/shop/info").status_code == 404
    assert "." not in server.connect("ann")
    assert isinstance(json.loads(http.get(f"{server.url}/disconnect?conn_id=shop.x").text), bool)


def test_a_key_names_its_application_without_a_path(tmp_path: Path) -> None:
    """So do its refusals: they are in that one's table, and in no other one's."""
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [{"id": "k1", "app": "shop", "secret": KEY}]}))
    file.chmod(0o600)
    server = launch_apps(CHANNELSTREAM_KEYS_FILE=str(file))
    try:
        shop = app_of(server, "shop")
        bearer = {"authorization": f"Bearer k1.{KEY}"}
        body = {"username": "ann", "channels": ["room"]}
        conn_id = http.post(f"{server.url}/connect", json=body, headers=bearer).json()["conn_id"]
        assert conn_id.startswith("shop.")
        assert list(shop.request("GET", "/info").json()["channels"]) == ["room"]
        assert server.request("GET", "/info").json()["channels"] == {}
        assert http.post(f"{server.url}/message", json=[{}], headers=bearer).status_code == 422
        assert [refused(app) for app in (server, shop)] == [[], [("/message", 422)]]
        assert http.get(f"{app_of(server, 'blog').url}/info", headers=bearer).status_code == 401
    finally:
        server.stop()


def refused(app: RunningServer) -> list[tuple[str, int]]:
    """Return the path and status of each row of the refused requests."""
    return [(row["route"], row["status"]) for row in admin_pages.rows(app, "refused")]
