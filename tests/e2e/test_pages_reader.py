"""The pages of an admin who may only look, in a browser."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.e2e.signing_in import sign_in

pytestmark = pytest.mark.browser


def test_a_reader_looks_at_everything_and_is_offered_nothing_to_change(
    open_page: Callable[..., Page], server: Any, post: Callable[..., Any]
) -> None:
    """The scripts of the pages do without what is not there; the address of a page leads there after the sign-in."""
    post("/connect", {"username": "look-ann", "conn_id": "look-ann", "channels": ["look"]})
    post("/admin/trace.json", {"channel": "look"})
    page = sign_in(open_page("/admin/channel?name=look"), server.reader_secret, "reader")
    expect(page.locator(".who")).to_contain_text("reader (read-only)")
    expect(page.locator("#users")).to_contain_text("look-ann")
    expect(page.get_by_label("Keep a history for /info")).to_be_disabled()
    for name in ("Save", "Send"):
        expect(page.get_by_role("button", name=name, exact=True)).to_have_count(0)
    page.goto("/admin/connection?name=look-ann")
    expect(page.locator("#facts")).to_contain_text("look-ann")
    expect(page.get_by_role("button", name="Disconnect")).to_have_count(0)
    page.goto("/admin/trace?channel=look")
    expect(page.locator("#state")).to_contain_text("s left")
    for name in ("Start", "Stop"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)
    page.goto("/api-explorer")
    page.locator("#operations-default-post_message, .opblock-post").first.click()
    expect(page.locator(".opblock-body").first).to_be_visible()
    expect(page.get_by_role("button", name="Execute")).to_have_count(0)
    post("/admin/trace.json", {"channel": "look", "minutes": "0"})
    post("/disconnect", {"conn_id": "look-ann"})
