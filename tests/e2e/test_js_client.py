"""The JavaScript client in Chromium, from the URL at which the server has it."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Route
from tests.conftest import RunningServer, StartServer
from tests.line import Line
from tests.waiting import eventually

from channelstream.site import assets

pytestmark = pytest.mark.browser

LISTEN = """async ([client, connection]) => {
  const { Channelstream } = await import(client);
  const fetchConnection = () => new Promise((resolve) => (window.answer = resolve));
  const options = { connection, fetchConnection, transports: ["websocket"], backoffBaseMs: 50, backoffCapMs: 200 };
  const stream = new Channelstream(options);
  window.received = [];
  window.types = [];
  stream.on("*", ({ type }) => types.push(type));
  stream.on("message", (event) => received.push([stream.transport, event.message.text]));
  const opened = new Promise((resolve) => stream.on("open", resolve));
  stream.open();
  await opened;
}"""


def listen(page: Page, server: RunningServer, channel: str) -> None:
    granted = {"conn_id": server.connect("js-page", channel)}
    page.evaluate(LISTEN, [f"{assets().url}/client/channelstream.js", granted])


def say(server: RunningServer, channel: str, text: str) -> None:
    server.post("/message", [{"user": "app", "channel": channel, "message": {"text": text}}])


def test_a_page_receives_by_websocket(open_page: Callable[..., Page], server: RunningServer) -> None:
    """With only the module and a connection's id."""
    page = open_page("/", bypass_csp=True)
    listen(page, server, "js-page")
    say(server, "js-page", "hi")
    page.wait_for_function("received.length")
    assert page.evaluate("received") == [["websocket", "hi"]]


ASK = """async ([client, url]) => {
  const { Channelstream } = await import(client);
  const connectHeaders = () => ({ "X-CSRFToken": document.title });
  const stream = new Channelstream({ url, connectUrl: "connection", connectHeaders, transports: ["websocket"] });
  const opened = new Promise((resolve) => stream.on("open", resolve));
  stream.open();
  await opened;
  stream.close();
  for (let time = 0; time < 20; time++) (stream.open(), stream.close());
}"""


def test_a_page_asks_its_application(
    open_page: Callable[..., Page], server: RunningServer, line: Line
) -> None:
    """`connectUrl` is relative to the page, wherever the server is; connections of twenty visits are ended."""
    given: list[str] = []
    asked: list[Any] = []

    def application(route: Route) -> None:
        asked.append(
            (route.request.method, route.request.post_data_json, route.request.headers["x-csrftoken"])
        )
        given.append(server.connect("js-asks", "js-asks"))
        route.fulfill(json={"conn_id": given[-1]})

    page = open_page("/", bypass_csp=True)
    page.route(f"{server.url}/connection", application)
    page.evaluate(ASK, [f"{assets().url}/client/channelstream.js", line.url])
    assert asked[0] == ("POST", {"expired": None}, page.title())
    wish = {"info": {"channels": ["js-asks"]}}

    def nothing_is_left() -> bool:
        page.title()  # Playwright routes requests only while it is asked something.
        answer = server.post("/info", wish)
        return len(given) == 21 and answer["channels"]["js-asks"]["total_connections"] == 0

    eventually(nothing_is_left, "connections are left")


def test_a_cut_line_loses_nothing(
    open_page: Callable[..., Page], server: RunningServer, line: Line, watch: Any
) -> None:
    """Messages published while the line was cut arrive once it is mended."""
    watch.expected = "WebSocket connection"
    page = open_page("/", base=line.url, bypass_csp=True)
    listen(page, server, "js-cut")
    line.cut()
    page.wait_for_function("types.includes('down')")
    say(server, "js-cut", "missed")
    line.mend()
    page.wait_for_function("received.length")
    assert [text for _, text in page.evaluate("received")] == ["missed"]
    assert "lost" not in page.evaluate("types")


def test_a_restart_is_survived(
    start_server: StartServer, port: str, open_page: Callable[..., Page], watch: Any
) -> None:
    """A killed server is found again; the page asks for a connection, receives a loss, and continues."""
    watch.expected = "WebSocket connection"
    server = start_server("-p", port)
    watch.servers.add(urlsplit(server.url).netloc)
    page = open_page("/", base=server.url, bypass_csp=True)
    listen(page, server, "js-restart")
    server.process.kill()
    server.process.communicate()
    server = start_server("-p", port)
    page.wait_for_function("'answer' in window")
    page.evaluate("(conn_id) => answer({ conn_id })", server.connect("js-page", "js-restart"))
    page.wait_for_function("types.includes('lost')")
    say(server, "js-restart", "after")
    page.wait_for_function("received.length")
    assert [text for _, text in page.evaluate("received")] == ["after"]
