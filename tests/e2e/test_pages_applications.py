"""The pages of a further application in a browser: all that they ask for is below its path."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.applications import RunningApp, app_of, launch_apps
from tests.e2e.chat import message, say
from tests.e2e.signing_in import sign_in

pytestmark = pytest.mark.browser


@pytest.fixture
def shop(watch: Any) -> Iterator[RunningApp]:
    server = launch_apps()
    watch.servers.add(f"127.0.0.1:{server.port}")
    yield app_of(server, "shop")
    server.stop()


def test_its_demo_talks_in_the_application(
    open_page: Callable[..., Page], shop: RunningApp, watch: Any
) -> None:
    """By its own calls and streams."""
    page = open_page("/app/shop/demo", base=shop.url.removesuffix("/app/shop"))
    page.get_by_label("Your name").fill("ann")
    page.keyboard.press("Enter")
    say(page, "hello, shop")
    expect(message(page, "hello, shop")).to_be_visible()
    history = shop.request("GET", "/info").json()["channels"]["demo-general"]["history"]
    assert [each["message"]["text"] for each in history] == ["hello, shop"]
    assert [url for url in watch.urls if "/app/shop/" not in url] == []


def test_its_admin_pages_lead_to_each_other(
    open_page: Callable[..., Page], shop: RunningApp, watch: Any
) -> None:
    """From the sign-in on; a row leads to its page, which leads to the trace."""
    shop.connect("ann", "room")
    page = sign_in(open_page("/app/shop/admin", base=shop.url.removesuffix("/app/shop")), shop.admin_secret)
    expect(page.get_by_role("heading", level=1)).to_have_text("Channels")
    expect(page.get_by_text("Application shop")).to_be_visible()
    page.get_by_role("link", name="room").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("room")
    page.get_by_role("link", name="Trace", exact=True).last.click()
    page.get_by_role("link", name="API explorer").click()
    expect(page.get_by_text("/message").first).to_be_visible()
    assert [url for url in watch.urls if "/app/shop/" not in url] == []
