"""The admin pages on screens of other widths."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

TABLES = (
    *("/admin/channels?search=layout", "/admin/users?search=layout", "/admin/connections?search=layout"),
    "/admin/user?name=layout-ann",
)

HEADINGS_BESIDE = "cells => cells.map(each => JSON.parse(getComputedStyle(each, '::before').content))"
"""What stands before each value, which a style puts there: the computed one is quoted."""


@pytest.fixture
def something_wide(post: Callable[..., Any]) -> None:
    """A user with a long state, and a channel with all marks."""
    settings = {"notify_presence": True, "notify_state": True, "store_history": True}
    state = {f"key {number}": f"a value of some length {number}" for number in range(4)}
    body = {"username": "layout-ann", "conn_id": "layout-1", "channels": ["layout"], "user_state": state}
    post("/connect", body | {"channel_configs": {"layout": settings}})


@pytest.mark.usefixtures("something_wide")
def test_rows_are_cards_on_a_phone(open_admin: Callable[..., Page]) -> None:
    """Each value is below the one before it, with its heading beside it; no table is scrolled, and it can be sorted."""
    page = open_admin(viewport={"width": 390, "height": 780})
    for path in TABLES:
        page.goto(path)
        row = page.locator("tbody tr").filter(has_text="layout").first
        expect(row).to_be_visible()
        assert page.evaluate(
            "[...document.querySelectorAll('.wide')].every(each => each.scrollWidth <= each.clientWidth)"
        ), path
        tops = row.locator("td:not(:empty)").evaluate_all(
            "cells => cells.map(each => each.getBoundingClientRect().top)"
        )
        assert tops == sorted(set(tops)), path
        labels = row.locator("td").evaluate_all(HEADINGS_BESIDE)
        assert labels == [
            text.strip() for text in row.locator("xpath=ancestor::table").locator("th").all_text_contents()
        ]
        assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.goto("/admin/channels?search=layout")
    page.get_by_role("button", name="Users").click()
    expect(page.locator("th[aria-sort]")).to_have_text("Users")


def test_a_page_with_many_connections_stays_short_on_a_phone(
    open_admin: Callable[..., Page], post: Callable[..., Any]
) -> None:
    """They scroll in a place of their own, so the history below them is in reach."""
    body = {"username": "layout-many", "channels": ["layout-many"]}
    with ExitStack() as stack:
        ids = [post("/connect", body)["conn_id"] for _ in range(100)]
        for conn_id in ids:
            # Other tests look at the first page of the table of connections.
            stack.callback(post, "/disconnect", {"conn_id": conn_id})
        page = open_admin("/admin/channel?name=layout-many", viewport={"width": 390, "height": 780})
        rows = page.locator("#connections tbody tr")
        expect(rows).to_have_count(len(ids))
        assert page.evaluate("document.documentElement.scrollHeight") < 3000
        last = rows.last.get_by_role("link").first
        conn_id = last.inner_text()
        last.click()
        expect(page.get_by_role("heading", level=1)).to_have_text(conn_id)


def test_a_cell_of_two_parts_is_one_text_on_a_phone(
    open_admin: Callable[..., Page], post: Callable[..., Any]
) -> None:
    """They wrap as one, and are not beside each other."""
    post("/connect", {"username": "layout-bob", "conn_id": "layout-2", "channels": []})
    post("/disconnect", {"conn_id": "layout-2"})
    page = open_admin(viewport={"width": 390, "height": 780})
    reason = page.locator("#endings tr").filter(has_text="layout-bob").first.locator("td").last
    assert reason.inner_text() == "Connection ended: disconnected by the application"


@pytest.mark.usefixtures("something_wide")
def test_a_tablet_shows_all_columns(open_admin: Callable[..., Page]) -> None:
    """Headings, times and marks take several lines rather than that the last columns are scrolled to."""
    page = open_admin(viewport={"width": 768, "height": 900})
    for name in ("channels", "users", "connections"):
        page.goto(f"/admin/{name}?search=layout")
        expect(page.locator("#rows tbody tr").filter(has_text="layout").first).to_be_visible()
        assert page.locator(".wide").evaluate("wide => wide.scrollWidth <= wide.clientWidth"), name


@pytest.mark.usefixtures("something_wide")
@pytest.mark.parametrize("width", [1280, 1920])
def test_a_wide_screen_is_used(open_admin: Callable[..., Page], width: int) -> None:
    """Most of its width is content, and the marks of a channel are on one line."""
    page = open_admin("/admin/channels?search=layout", viewport={"width": width, "height": 900})
    marks = page.locator("#rows tbody tr").filter(has_text="layout").first.locator(".chip")
    expect(marks).to_have_count(3)
    assert len(set(marks.evaluate_all("marks => marks.map(each => each.offsetTop)"))) == 1
    assert page.locator("main > .panel").evaluate("panel => panel.clientWidth") > 0.9 * width
    page.goto("/admin")
    ends, refused = page.evaluate(
        "['endings', 'refused'].map("
        "name => document.querySelector(`section[aria-labelledby=${name}-title]`).getBoundingClientRect().top)"
    )
    assert (ends == refused) is (width == 1920)


def test_heads_of_tables_on_a_phone(open_admin: Callable[..., Page]) -> None:
    """The buttons that sort are in a bar of the table's width, and a table that has none has no bar."""
    page = open_admin(viewport={"width": 390, "height": 780})
    heights = page.locator("thead").evaluate_all(
        "all => all.map(each => each.getBoundingClientRect().height)"
    )
    assert set(heights) == {0}
    page.goto("/admin/nodes")
    head, table = (page.locator(name).bounding_box() for name in ("thead tr", "table"))
    assert head and table
    assert head["width"] == table["width"]
