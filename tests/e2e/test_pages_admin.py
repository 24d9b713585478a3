"""The admin pages in a browser, over a real server."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Page]


@pytest.fixture
def sign_in(open_page: OpenPage, server: Any) -> Callable[..., Page]:
    """Open a guarded page, which leads to the form, and fill it in."""

    def sign_in(password: str = server.admin_secret, **options: Any) -> Page:
        page = open_page("/admin", **options)
        page.get_by_label("User name").fill("admin")
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Sign in").click()
        return page

    return sign_in


def test_a_wrong_password_stays_outside(sign_in: Callable[..., Page]) -> None:
    """The form comes back and says what is wrong."""
    page = sign_in("wrong")
    expect(page.get_by_role("alert")).to_have_text("User name or password is wrong.")
    page.goto("/admin")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


def test_numbers_are_live(sign_in: Callable[..., Page], server: Any, post: Callable[..., Any]) -> None:
    """A connection made while the panel is open appears in the numbers and in both tables."""
    page = sign_in()
    expect(page.locator("#freshness")).to_have_text("Live")
    post("/connect", {"username": "<b>admin-zoe</b>", "conn_id": "admin-test", "channels": ["admin-live"]})
    row = page.locator("#channels tr").filter(has_text="admin-live")
    expect(row).to_contain_text("history_size")
    expect(page.locator("#users tr").filter(has_text="<b>admin-zoe</b>")).to_contain_text("admin-test")
    message = {"channel": "admin-live", "user": "zoe", "message": {"text": "<i>kept</i>"}}
    post("/channel_config", {"admin-live": {"store_history": True, "history_size": 5}})
    post("/message", [message])
    expect(row).to_contain_text("store_history")
    row.get_by_role("button").click()
    expect(page.get_by_role("dialog")).to_contain_text("<i>kept</i>")
    page.get_by_role("button", name="Close").click()
    post("/disconnect", {"conn_id": "admin-test"})
    expect(page.locator("#users tr").filter(has_text="admin-zoe")).not_to_contain_text("admin-test")


def test_thousands_of_rows_are_searched(sign_in: Callable[..., Page], post: Callable[..., Any]) -> None:
    """The table draws 200 rows and says how many more there are; a search finds any of them."""
    post("/channel_config", {f"many-{number:04}": {} for number in range(1200)})
    page = sign_in()
    rows = page.locator("#channels tbody tr")
    expect(rows).to_have_count(200)
    expect(page.locator("#channels-rest")).to_contain_text("more")
    page.get_by_label("Find a channel").fill("many-1187")
    expect(rows).to_have_count(1)
    expect(page.locator("#channels-rest")).to_be_empty()
    page.get_by_label("Find a channel").fill("nothing like it")
    expect(page.locator("#channels-rest")).to_have_text("Nothing like that.")


def test_signing_out_closes_the_panel(sign_in: Callable[..., Page]) -> None:
    """The button leads to the form; a panel that is still open in another tab goes there too."""
    page = sign_in()
    expect(page.locator("#freshness")).to_have_text("Live")
    other = page.context.new_page()
    other.goto("/admin")
    other.get_by_role("button", name="Sign out").click()
    expect(other.get_by_role("heading", level=1)).to_have_text("Sign in")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


def test_the_explorer_makes_signed_calls(sign_in: Callable[..., Page]) -> None:
    """An operation executed on the page is signed and answered 200 by the server itself."""
    page = sign_in()
    page.get_by_role("link", name="API explorer").click()
    operation = page.locator(".opblock-post").filter(has=page.locator('[data-path="/info"]'))
    operation.locator(".opblock-summary-control").click()
    operation.locator(".body-param__text").fill('{"info": {"channels": []}}')
    operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table")
    expect(answer.locator(".response-col_status").last).to_contain_text("200")
    expect(answer.locator(".response-col_description").last).to_contain_text('"channels": {}')


@pytest.mark.parametrize("path", ["/", "/admin", "/api-explorer"])
def test_pages_fit_a_phone(sign_in: Callable[..., Page], path: str) -> None:
    """At 390 pixels nothing sticks out; wide tables scroll by themselves."""
    page = sign_in(viewport={"width": 390, "height": 780})
    expect(page.locator("#freshness")).to_have_text("Live")
    page.goto(path)
    expect(page.get_by_role("heading", level=1).first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
