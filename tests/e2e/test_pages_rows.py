"""What a person holds in an admin page, while the page is brought up to date."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

SELECT = """(element) => {
    getSelection().selectAllChildren(element);
    element.dataset.mark = "kept";
}"""
SELECTED = "getSelection().toString()"
FOCUSED = "document.activeElement.textContent"


def ask_again(page: Page) -> None:
    """Have a table fetched now, and not after the next sample."""
    page.get_by_role("searchbox").dispatch_event("input")


def test_focus_selection_and_scroll_survive_changed_rows(
    open_admin: Callable[..., Page], post: Callable[..., Any]
) -> None:
    """Rows come, go and move around the one that has the focus, and the one that is selected."""
    names = [f"keyed-{number:02}" for number in range(30)]
    post("/channel_config", {name: {} for name in names})
    page = open_admin(
        "/admin/channels?search=keyed-&sort=users&descending=true", viewport={"width": 560, "height": 300}
    )
    rows = page.locator("#rows tbody tr")
    expect(rows).to_have_count(30)
    page.get_by_role("link", name="keyed-20").evaluate(SELECT)
    page.get_by_role("link", name="keyed-20").focus()
    page.locator(".wide").evaluate("wide => (wide.scrollLeft = 40)")
    for conn_id, channels in (("keyed-1", ["keyed-20", "keyed-25"]), ("keyed-2", ["keyed-20", "keyed-new"])):
        post("/connect", {"username": conn_id, "conn_id": conn_id, "channels": channels})
    ask_again(page)
    expect(rows.first).to_contain_text("keyed-20")
    expect(rows).to_have_count(31)
    expect(rows.nth(0).locator("td").nth(1)).to_have_text("2")
    texts = rows.locator("td:first-child").all_text_contents()
    assert texts[:3] == ["keyed-20", "keyed-25", "keyed-new"]
    assert sorted(texts) == sorted([*names, "keyed-new"])
    assert (page.evaluate(FOCUSED), page.evaluate(SELECTED)) == ("keyed-20", "keyed-20")
    expect(page.get_by_role("link", name="keyed-20")).to_have_attribute(
        "href", "/admin/channel?name=keyed-20"
    )
    assert page.locator(".wide").evaluate("wide => wide.scrollLeft") == 40
    for conn_id in ("keyed-1", "keyed-2"):
        post("/disconnect", {"conn_id": conn_id})
    ask_again(page)
    expect(rows.first).not_to_contain_text("keyed-20")
    assert (page.evaluate(FOCUSED), page.evaluate(SELECTED)) == ("keyed-20", "keyed-20")


def test_a_selected_id_stays_selected_on_its_page(
    open_admin: Callable[..., Page], post: Callable[..., Any]
) -> None:
    """While events arrive; and a button copies the name."""
    post("/connect", {"username": "parted-eve", "conn_id": "parted-id", "channels": ["parted-page"]})
    page = open_admin("/admin/connection?name=parted-id")
    expect(page.locator("#facts")).to_contain_text("Position of the server")
    page.get_by_role("link", name="parted-eve").evaluate(SELECT)
    post("/message", {"channel": "parted-page", "user": "bob", "message": "arrives meanwhile"})
    expect(page.locator("#events")).to_contain_text("arrives meanwhile")
    assert page.evaluate(SELECTED) == "parted-eve"
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_text("Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "parted-id"
    page.context.clear_permissions()
