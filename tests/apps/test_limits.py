"""The limits of an application: what one uses too much of is refused to it, and to no other one."""

from collections.abc import Iterator

import httpx
import pytest
from tests.applications import RunningApp, app_of, launch_apps
from tests.conftest import RunningServer
from tests.http_client import http

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
    return http.get(f"{server.url}/metrics", auth=("admin", server.admin_secret)).text


def published(server: RunningServer, app_id: str) -> float:
    start = f'channelstream_messages_published_total{{application="{app_id}",worker="0"}} '
    [line] = [line for line in metrics(server).splitlines() if line.startswith(start)]
    return float(line.removeprefix(start))
