"""The limits of an application: what one uses too much of is refused to it, and to no other one."""

from collections.abc import Iterator

import httpx
import pytest
from tests.applications import RunningApp, app_of, launch_apps
from tests.conftest import ADMIN_SECRET, RunningServer
from tests.http_client import http
from tests.redis_server import RedisServer

SLOW = "0.01"
"""Messages a second: the next one comes later than any test ends."""


@pytest.fixture(scope="module")
def running() -> Iterator[RunningServer]:
    server = launch_apps(CHANNELSTREAM_APP_SHOP_MAX_MESSAGE_RATE=SLOW)
    yield server
    code, log = server.stop()
    assert (code, "Traceback" in log) == (0, False), log


@pytest.fixture
def shop(running: RunningServer) -> RunningApp:
    return app_of(running, "shop")


def publish(app: RunningServer, method: str = "POST", **more: str) -> httpx.Response:
    return app.request(method, "/message", {"user": "ann", "channel": "room", "message": "m", **more})


def test_messages_above_the_rate_are_refused(running: RunningServer, shop: RunningApp) -> None:
    """With 429 and when to come back; edits and deletions are messages, too. Others publish as before."""
    uuid = publish(shop).json()["uuid"]
    for answer in (publish(shop), publish(shop, "PATCH", uuid=uuid), publish(shop, "DELETE", uuid=uuid)):
        assert answer.status_code == 429
        assert 50 < int(answer.headers["retry-after"]) <= 100
        assert answer.json()["error"] == (
            "This application may publish 0.01 messages in a second; send them later."
        )
    for app in (running, app_of(running, "blog")):
        assert [publish(app).status_code for _ in range(3)] == [200] * 3
    assert 'channelstream_limited_total{application="shop",limit="messages",worker="0"} 3.0' in metrics(
        running
    )


def test_what_an_application_publishes_is_counted(running: RunningServer) -> None:
    """By its id."""
    blog = app_of(running, "blog")
    blog.connect("ann", "room")
    before = published(running, "blog")
    publish(blog, uuid="00000000-0000-4000-8000-000000000001")
    publish(blog, uuid="00000000-0000-4000-8000-000000000001")
    assert published(running, "blog") == before + 1


def metrics(server: RunningServer) -> str:
    auth = ("admin", ADMIN_SECRET)
    return http.get(f"http://127.0.0.1:{server.port}/metrics", auth=auth).text


def published(server: RunningServer, app_id: str) -> float:
    start = f'channelstream_messages_published_total{{application="{app_id}",worker="0"}} '
    [line] = [line for line in metrics(server).splitlines() if line.startswith(start)]
    return float(line.removeprefix(start))


@pytest.fixture(scope="module")
def full() -> Iterator[RunningApp]:
    """Return an application that may have two connections and three channels."""
    server = launch_apps(
        CHANNELSTREAM_APP_SHOP_MAX_APP_CONNECTIONS="2", CHANNELSTREAM_APP_SHOP_MAX_APP_CHANNELS="3"
    )
    yield app_of(server, "shop")
    code, log = server.stop()
    assert (code, "Traceback" in log) == (0, False), log


def test_connections_above_the_limit_are_refused(full: RunningApp) -> None:
    """A known one may connect again; where one has ended there is room. Others connect as before."""
    first, second = full.connect("ann"), full.connect("bob")
    third = {"username": "eve", "channels": ["a"]}
    refused = full.request("POST", "/connect", third)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
    assert (
        refused.json()["error"] == "No more connections of this application here: at most 2; try again later."
    )
    assert full.post("/connect", {"username": "ann", "conn_id": first, "channels": []})["conn_id"] == first
    for _ in range(3):
        app_of(full, "blog").connect("ann")
    assert full.post("/disconnect", {"conn_id": first}) is True
    for conn_id in (full.post("/connect", third)["conn_id"], second):
        assert full.post("/disconnect", {"conn_id": conn_id}) is True
    assert 'channelstream_limited_total{application="shop",limit="connections",worker="0"} 1.0' in metrics(
        full
    )


def test_channels_above_the_limit_are_refused(full: RunningApp) -> None:
    """All of a call; those that somebody is in have room for everybody."""
    conn_id = full.connect("ann", "a", "b")
    ask = {"conn_id": conn_id, "channels": ["c", "d"]}
    assert full.request("POST", "/subscribe", ask).status_code == 429
    assert full.post("/subscribe", ask | {"channels": ["c"]})["channels"] == ["a", "b", "c"]
    other = {"username": "bob", "channels": ["a", "d"]}
    assert full.request("POST", "/connect", other).status_code == 429
    other_id = full.post("/connect", other | {"channels": ["a", "b", "c"]})["conn_id"]
    app_of(full, "blog").connect("ann", "a", "b", "c", "d")
    full.post("/unsubscribe", {"conn_id": conn_id, "channels": ["a"]})
    assert full.request("POST", "/subscribe", ask | {"channels": ["d"]}).status_code == 429
    full.post("/unsubscribe", {"conn_id": other_id, "channels": ["a"]})
    assert full.post("/subscribe", ask | {"channels": ["d"]})["channels"] == ["b", "c", "d"]
    for each in (conn_id, other_id):
        full.post("/disconnect", {"conn_id": each})


@pytest.mark.slow
def test_a_limit_holds_where_the_connection_is(redis: RedisServer) -> None:
    """The node that is asked passes the refusal on."""
    limit = {"CHANNELSTREAM_APP_SHOP_MAX_APP_CHANNELS": "1"}
    nodes = [launch_apps("--engine", redis.address, **limit) for _ in range(2)]
    try:
        here, there = (app_of(node, "shop") for node in nodes)
        ask = {"conn_id": here.connect("ann", "a"), "channels": ["b"]}
        refused = there.request("POST", "/subscribe", ask)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        assert (
            refused.json()["error"]
            == "No more channels of this application here: at most 1; try again later."
        )
    finally:
        for node in nodes:
            node.stop()
