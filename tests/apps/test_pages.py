"""The pages of further applications: below the path of each, for those who may see its own."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.applications import RunningApp, app_of, launch_apps
from tests.conftest import RunningServer
from tests.http_client import http

JSON = {"accept": "application/json"}


@pytest.fixture(scope="module")
def running() -> Iterator[RunningServer]:
    server = launch_apps(CHANNELSTREAM_APP_BLOG_DEMO="no", CHANNELSTREAM_APP_BLOG_ADMIN_SECRET="")
    yield server
    code, log = server.stop()
    assert (code, "Traceback" in log) == (0, False), log


@pytest.fixture(scope="module")
def shop(running: RunningServer) -> RunningApp:
    return app_of(running, "shop")


def basic(server: RunningServer) -> tuple[str, str]:
    return ("admin", server.admin_secret)


def get(server: RunningServer, path: str, **options: Any) -> httpx.Response:
    return http.get(server.url + path, **options)


def test_a_sign_in_opens_the_pages_of_one_application(running: RunningServer, shop: RunningApp) -> None:
    """Its cookie is sent only below its path, and is no other application's."""
    form = {"username": "admin", "password": shop.admin_secret}
    answer = http.post(f"{shop.url}/admin/sign_in", data=form)
    assert (answer.status_code, answer.headers["location"]) == (302, "/app/shop/admin")
    cookie = answer.headers["set-cookie"]
    name, _, ticket = cookie.partition(";")[0].partition("=")
    assert name == "auth_tkt_shop"
    assert "Path=/app/shop;" in cookie
    for path, title in (("/admin/channels", "Channels"), ("/admin/trace", "Trace"), ("/api-explorer", "API")):
        page = get(shop, path, headers={"cookie": f"auth_tkt_shop={ticket}"})
        assert page.status_code == 200
        assert title in page.text
        assert "Application shop" in page.text
    for each, names in ((running, ("auth_tkt",)), (app_of(running, "blog"), ("auth_tkt_blog", "auth_tkt"))):
        for other in names:
            page = get(each, "/admin/channels", headers={"cookie": f"{other}={ticket}"})
            assert page.status_code == 302


def test_the_cookie_of_the_default_application_does_no_harm(running: RunningServer, shop: RunningApp) -> None:
    """A browser sends both; each opens its own pages only."""
    cookies = []
    for server in (running, shop):
        form = {"username": "admin", "password": server.admin_secret}
        cookies.append(
            http.post(f"{server.url}/admin/sign_in", data=form).headers["set-cookie"].partition(";")[0]
        )
    for server in (running, shop):
        assert get(server, "/admin/channels", headers={"cookie": "; ".join(cookies)}).status_code == 200
    assert get(shop, "/admin/channels", headers={"cookie": cookies[0]}).status_code == 302


def test_credentials_of_one_application_open_no_pages_of_another(
    running: RunningServer, shop: RunningApp
) -> None:
    """Neither its password nor its signature."""
    path = "/admin/data/channels"
    for server in (running, shop):
        other = shop if server is running else running
        assert get(server, path, auth=basic(server), headers=JSON).status_code == 200
        assert get(server, path, headers=JSON | server.sign(path)).status_code == 200
        assert get(server, path, headers=JSON | other.sign(path)).status_code == 401
    assert get(running, path, auth=basic(shop), headers=JSON).status_code == 401


def test_an_application_without_a_password_has_no_sign_in(running: RunningServer) -> None:
    """An empty one opens nothing, but its signature does."""
    blog, path = app_of(running, "blog"), "/admin/data/channels"
    assert get(blog, path, auth=("admin", ""), headers=JSON).status_code == 401
    assert get(blog, path, headers=JSON | blog.sign(path)).status_code == 200


def test_figures_of_the_server_are_on_no_page_of_a_further_application(shop: RunningApp) -> None:
    """The overview leads to its channels; what shows how busy the server is does not exist."""
    overview = get(shop, "/admin", auth=basic(shop))
    assert (overview.status_code, overview.headers["location"]) == (302, "/app/shop/admin/channels")
    page = get(shop, "/admin/channels", auth=basic(shop)).text
    assert "/app/shop/admin/users" in page
    assert "Overview" not in page
    with http.stream("GET", f"{shop.url}/admin/live", auth=basic(shop), headers=JSON) as events:
        assert next(line for line in events.iter_lines() if "data" in line) == 'data: {"new_samples":0}'
    for path in (
        "admin/debug",
        "admin/admin.json",
        "admin/data/history",
        "admin/data/slow_turns",
    ):
        assert get(shop, f"/{path}", auth=basic(shop), headers=JSON).status_code == 404, path
    for path in ("/admin/nodes", "/admin/data/nodes"):
        assert get(shop, path, auth=basic(shop)).status_code == 404, path


def test_tables_and_actions_are_of_the_application(running: RunningServer, shop: RunningApp) -> None:
    """A channel of the same name elsewhere stays as it is."""
    for server in (running, shop):
        server.connect("ann", "room", conn_id="c-ann")
    rows = get(shop, "/admin/data/connections", auth=basic(shop), headers=JSON).json()["rows"]
    assert [row["id"] for row in rows] == ["c-ann"]
    ended = http.post(f"{shop.url}/admin/do/disconnect", json={"conn_id": "c-ann"}, auth=basic(shop))
    assert ended.json() is True
    assert running.post("/disconnect?conn_id=c-ann") is True


def test_the_explorer_calls_the_application(shop: RunningApp) -> None:
    """By its path, with its signature."""
    document = get(shop, "/openapi.json", headers=shop.sign("/openapi.json")).json()
    assert document["servers"] == [{"url": "/app/shop"}]
    form = {"username": "admin", "password": shop.admin_secret}
    cookie = http.post(f"{shop.url}/admin/sign_in", data=form).headers["set-cookie"].partition(";")[0]
    headers = {"cookie": cookie, "sec-fetch-site": "same-origin"}
    call = {"path": "/info", "method": "GET"}
    signed = http.post(f"{shop.url}/admin/sign", json=call, headers=headers).json()["headers"]
    assert get(shop, "/info", headers=signed).status_code == 200


def test_the_demo_is_an_option_of_the_application(running: RunningServer, shop: RunningApp) -> None:
    """It talks in the channels of its own."""
    page = get(shop, "/demo")
    assert page.status_code == 200
    assert 'data-root="/app/shop"' in page.text
    assert get(running, "/demo").status_code == 200
    assert get(app_of(running, "blog"), "/demo").status_code == 404


def test_metrics_of_an_application_are_those_that_count_it_alone(
    running: RunningServer, shop: RunningApp
) -> None:
    """The operator of the server sees all of them, with the ids of the others."""
    lines = get(shop, "/metrics", auth=basic(shop)).text.splitlines()
    samples = [line for line in lines if not line.startswith("#")]
    assert {line.partition("{")[0] for line in samples} == {
        "channelstream_connections",
        "channelstream_messages_published_total",
        "channelstream_limited_total",
        "channelstream_webhook_events_total",
        "channelstream_webhook_calls_failed_total",
        "channelstream_webhook_events_pending",
        "channelstream_webhook_events_refused",
    }
    assert all('application="shop"' in line for line in samples)
    assert get(shop, "/metrics", auth=basic(running)).status_code == 401
    assert 'application="blog"' in get(running, "/metrics", auth=basic(running)).text
