"""What the chat demo says about its line to the server, on lines that fail without a word."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Route, expect

pytestmark = pytest.mark.browser

NEVER = ("--heartbeat-interval-s", "3600")
BLOCKED = {"websocket": (), "sse": (b"GET /ws",), "poll": (b"GET /ws", b"GET /sse")}
"""The requests that must fail for a page to use a transport."""


@pytest.mark.parametrize("transport", BLOCKED)
def test_a_silent_line_is_noticed_without_a_heartbeat(
    start_server: Any, join: Callable[..., Page], line: Any, watch: Any, transport: str
) -> None:
    """The page asks for a sign of life: a line on which nothing comes is called so, and live as soon as something comes."""
    watch.expected = "WebSocket connection"
    line.lead_to(start_server(*NEVER).port)
    line.blocked = BLOCKED[transport]
    ann = join(f"silent-{transport}", base=line.url)
    line.passes.clear()
    expect(ann.locator("#link")).to_have_text("No answer")
    expect(ann.get_by_role("alert")).to_contain_text("silent for longer")
    line.passes.set()
    expect(ann.locator("#link")).to_have_text("Live")
    expect(ann.locator("#note")).to_be_hidden()


def test_a_question_that_stays_without_an_answer_is_asked_again(
    start_server: Any, join: Callable[..., Page], line: Any
) -> None:
    """It may be on a line that has died without a word, while the stream has a new one."""
    line.lead_to(start_server(*NEVER).port)
    ann = join("asks-ann", base=line.url)
    held: list[Route] = []
    ann.route("**/demo/alive", lambda route: route.continue_() if held else held.append(route))
    with ann.expect_request("**/demo/alive"):
        pass
    with ann.expect_response("**/demo/alive"):
        pass
    expect(ann.locator("#link")).to_have_text("Live")


def test_a_page_that_nobody_sees_does_not_ask(join: Callable[..., Page], line: Any) -> None:
    """A missing heartbeat tells it that its line is silent."""
    ann = join("hidden-ann", base=line.url)
    ann.evaluate("Object.defineProperty(document, 'hidden', { value: true })")
    asked: list[str] = []
    ann.on("request", lambda request: asked.append(urlsplit(request.url).path))
    line.passes.clear()
    expect(ann.locator("#link")).to_have_text("No answer")
    assert "/demo/alive" not in asked


def test_a_device_without_a_network_says_so_at_once(join: Callable[..., Page], watch: Any) -> None:
    """It does before any heartbeat is missing, and is live again when the network is back."""
    watch.expected = "ERR_INTERNET_DISCONNECTED"
    ann = join("network-ann")
    ann.context.set_offline(True)
    expect(ann.locator("#link")).to_have_text("Offline")
    expect(ann.get_by_role("alert")).to_contain_text("no network")
    ann.context.set_offline(False)
    expect(ann.locator("#link")).to_have_text("Live")
    expect(ann.locator("#note")).to_be_hidden()
