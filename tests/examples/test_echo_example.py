"""The example of Laravel Echo, whose page and backend know nothing but Pusher, in two browsers."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from tests.examples.running import ROOT, running, sign_in
from tests.pusher_calls import KIT

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(one_node: Any) -> Iterator[str]:
    if not (ROOT / "tests/clients/pusher/node_modules/pusher-js").exists():
        pytest.skip(
            "No pusher-js: with node and npm, scripts/js-packages.sh brings it, and the example its own."
        )
    with running(
        "echo", one_node.url, "", **{f"PUSHER_{name}": text for name, text in KIT.items()}
    ) as address:
        yield address


def test_a_chat_of_echo_works(chromium: Browser, address: str, one_node: Any) -> None:
    """Members, messages, a whisper, a message of a native program, and the end of a page."""
    ann, bob = (sign_in(chromium, address, name) for name in ("Ann", "Bob"))
    for page in (ann, bob):
        expect(page.get_by_role("status")).to_have_text("Connected.")
        expect(page.locator("#here")).to_have_text("Ann, Bob")
    ann.get_by_label("Message").fill("Hello")
    expect(bob.locator("#typing")).to_have_text("Ann is typing")
    ann.get_by_role("button", name="Send").click()
    native = {"event": "said", "data": {"user": "Server", "text": "Welcome"}}
    for page in (ann, bob):  # Ann's page shows it when its own call is answered.
        expect(page.get_by_role("listitem")).to_have_text(["Ann: Hello"])
    one_node.post("/message", {"user": "x", "channel": "pusher/presence-chat", "message": native})
    for page in (ann, bob):
        expect(page.get_by_role("listitem")).to_have_text(["Ann: Hello", "Server: Welcome"])
    bob.context.close()
    expect(ann.locator("#here")).to_have_text("Ann")
    ann.context.close()


def test_a_stranger_is_in_no_chat(chromium: Browser, address: str) -> None:
    """The backend signs for its users only."""
    page = chromium.new_context().new_page()
    page.goto(address)
    answer = page.request.post(f"{address}/auth", form={"channel_name": "presence-chat", "socket_id": "1.2"})
    assert answer.status == 401
    page.context.close()
