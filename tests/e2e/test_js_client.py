"""The JavaScript client in Chromium, from the URL at which the server has it."""

from typing import Any

import pytest

from channelstream.pages.assets import static_url

pytestmark = pytest.mark.browser

LISTEN = """async ([client, conn_id]) => {
  const { Channelstream } = await import(client);
  const stream = new Channelstream({ connection: { conn_id } });
  window.heard = [];
  stream.on("message", (event) => window.heard.push([stream.transport, event.message.text]));
  const opened = new Promise((resolve) => stream.once("open", resolve));
  stream.open();
  await opened;
}"""


def test_a_page_hears_by_websocket(open_page: Any, server: Any) -> None:
    """With nothing but the module and a connection's id."""
    page = open_page("/")
    conn_id = server.connect("js-page", "js-page")
    page.evaluate(LISTEN, [f"{static_url()}/client/channelstream.js", conn_id])
    server.post("/message", [{"user": "app", "channel": "js-page", "message": {"text": "hi"}}])
    page.wait_for_function("heard.length")
    assert page.evaluate("heard") == [["websocket", "hi"]]
