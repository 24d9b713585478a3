"""Laravel Echo with pusher-js in Chromium."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page
from tests.conftest import RunningServer
from tests.line import Line
from tests.pusher_calls import KIT, done
from tests.pusher_client import line as opened

from channelstream.core.pusher_signing import channel_text, signature

pytestmark = pytest.mark.browser

PACKAGES = Path(__file__).parents[1] / "clients/pusher/node_modules"
SCRIPTS = (PACKAGES / "pusher-js/dist/web/pusher.min.js", PACKAGES / "laravel-echo/dist/echo.iife.js")
LISTEN = """([host, port]) => {
  window.seen = [];
  const note = (kind) => (data) => seen.push([kind, data]);
  window.echo = new Echo.default({
    broadcaster: "reverb",
    key: "kit-key",
    wsHost: host,
    wsPort: port,
    forceTLS: false,
    enabledTransports: ["ws"],
    authorizer: ({ name }) => ({
      authorize: (socketId, done) => sign(socketId, name).then((signed) => done(null, signed)),
    }),
  });
  echo.channel("page-open").listen(".hi", note("hi"));
  echo.join("page-room").here(note("here")).joining(note("joining")).leaving(note("leaving"))
    .listenForWhisper("typing", note("typing"));
}"""


def sign(socket_id: str, channel: str) -> dict[str, str]:
    """Sign as the server of an application does."""
    data = (
        json.dumps({"user_id": 1, "user_info": {"name": "Ann"}}) if channel.startswith("presence-") else None
    )
    auth = f"{KIT['KEY']}:{signature(KIT['SECRET'], channel_text(socket_id, channel, data))}"
    return {"auth": auth} | ({"channel_data": data} if data else {})


def next_seen(page: Page, kind: str) -> Any:
    """Wait for an event of a kind in the page; return its data, and forget it and all before it."""
    page.wait_for_function("(kind) => seen.some((each) => each[0] === kind)", arg=kind)
    taken = "(kind) => seen.splice(0, 1 + seen.findIndex((each) => each[0] === kind)).pop()[1] ?? null"
    return page.evaluate(taken, kind)


def test_a_page_comes_back(
    open_page: Callable[..., Page], server: RunningServer, line: Line, watch: Any
) -> None:
    """It receives events, sees who is here, and whispers; after a cut it is in all its channels again."""
    if not all(script.exists() for script in SCRIPTS):
        pytest.skip("No client of Pusher: with node and npm, scripts/js-packages.sh brings it.")
    watch.expected = "WebSocket connection"
    page = open_page("/", bypass_csp=True)
    page.expose_function("sign", sign)
    for script in SCRIPTS:
        page.add_script_tag(path=script)
    address = urlsplit(line.url)
    watch.servers.add(address.netloc)
    with opened(server) as bob:
        bob.joins("presence-page-room", "2", {"name": "Bob"})
        page.evaluate(LISTEN, [address.hostname, address.port])
        assert next_seen(page, "here") == [{"name": "Ann"}, {"name": "Bob"}]
        assert bob.next()["event"] == "pusher_internal:member_added"
        bob.sends("client-typing", {"who": "Bob"}, channel="presence-page-room")
        assert next_seen(page, "typing") == {"who": "Bob"}
        page.evaluate("echo.join('page-room').whisper('typing', { who: 'Ann' })")
        assert bob.next()["data"] == {"who": "Ann"}
        event = {"name": "hi", "channel": "page-open", "data": '{"n":1}'}
        done(server, "POST", "/events", event)
        assert next_seen(page, "hi") == {"n": 1}
        line.cut()
        assert bob.next()["event"] == "pusher_internal:member_removed"
        page.evaluate("seen.length = 0")
        line.mend()
        assert next_seen(page, "here") == [{"name": "Ann"}, {"name": "Bob"}]
        assert bob.next()["event"] == "pusher_internal:member_added"
        done(server, "POST", "/events", event)
        assert next_seen(page, "hi") == {"n": 1}
    assert next_seen(page, "leaving") == {"name": "Bob"}
    page.evaluate("echo.disconnect()")
