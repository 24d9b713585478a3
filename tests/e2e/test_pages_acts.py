"""The page of what admins did, in a browser."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.e2e.signing_in import sign_in

pytestmark = pytest.mark.browser


def test_what_an_admin_does_is_listed_with_links(
    open_page: Callable[..., Page], server: Any, post: Callable[..., Any]
) -> None:
    """Newest first. Names are shown safely, and lead to their pages; the page fits a phone."""
    name = "acts <b>\u202efdp"
    post("/connect", {"username": "acts-eve", "conn_id": "acts-eve", "channels": [name]})
    post("/disconnect", {"conn_id": "acts-eve"})
    page = sign_in(open_page("/admin/acts", viewport={"width": 390, "height": 780}), server.admin_secret)
    rows = page.locator("#acts tbody tr")
    expect(rows.first).to_contain_text("signed in")
    post("/admin/do/settings", {name: {"store_history": True}})
    expect(rows.first).to_contain_text("changed the settings of channel acts <b>U+202Efdp, store_history")
    expect(rows.nth(1)).to_contain_text("signed in")
    expect(rows.first).to_contain_text("the option secret")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    rows.first.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("acts <b>U+202Efdp")
