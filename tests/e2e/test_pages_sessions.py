"""Sessions of an admin in a browser: restarts, their end while a page is open, and what was typed."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.e2e.signing_in import sign_in

pytestmark = pytest.mark.browser


def fill_in(page: Page, password: str) -> None:
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def test_a_sign_in_keeps_the_name_and_leads_to_the_page(
    open_page: Callable[..., Page], server: Any, watch: Any
) -> None:
    """After a wrong password only the password is typed again."""
    watch.expected = "404"  # There is no such channel.
    page = open_page("/admin/channel?name=sessions-wanted")
    page.get_by_label("User name").fill("admin")
    fill_in(page, "wrong")
    expect(page.get_by_role("alert")).to_have_text("User name or password is wrong.")
    expect(page.get_by_label("User name")).to_have_value("admin")
    expect(page.get_by_label("Password")).to_be_focused()
    fill_in(page, server.admin_secret)
    expect(page.get_by_role("heading", level=1)).to_have_text("sessions-wanted")


def test_a_sign_in_without_cookies_says_so(open_page: Callable[..., Page]) -> None:
    """Signing in would lead back to the form, without a word."""
    page = open_page("/admin")
    note = page.get_by_text("This browser keeps no cookies")
    expect(note).to_be_hidden()
    devtools = page.context.new_cdp_session(page)
    devtools.send("Emulation.setDocumentCookieDisabled", {"disabled": True})
    page.reload()
    expect(note).to_be_visible()
    devtools.send("Emulation.setDocumentCookieDisabled", {"disabled": False})


def test_a_session_outlives_a_restart(start_server: Any, open_page: Callable[..., Page], watch: Any) -> None:
    """Where the option cookie_secret is set. The next start has another port here, for which a cookie is valid too."""
    flags = ("--cookie-secret", "a key that stays the same")
    running, restarted = start_server(*flags), start_server(*flags)
    watch.servers |= {f"127.0.0.1:{each.port}" for each in (running, restarted)}
    page = open_page("/admin/users", base=running.url)
    page.get_by_label("User name").fill("admin")
    fill_in(page, running.admin_secret)
    expect(page.get_by_role("heading", level=1)).to_have_text("Users")
    page.goto("about:blank")  # A page that is open would log that its server is gone.
    running.stop()
    page.goto(f"{restarted.url}/admin/channels")
    expect(page.get_by_role("heading", level=1)).to_have_text("Channels")


def test_a_page_whose_session_ends_keeps_what_was_typed(
    open_admin: Callable[..., Page], post: Callable[..., Any], server: Any, watch: Any
) -> None:
    """It says so, and goes on after a sign-in in another window; a page without typed text goes to the form."""
    watch.expected = "404"
    post("/channel_config", {"sessions-typed": {}})
    page = open_admin("/admin/channel?name=sessions-typed")
    page.get_by_role("textbox", name="Message").fill("not sent yet")
    idle = page.context.new_page()
    idle.goto("/admin/users")
    expect(idle.locator("#freshness")).to_have_text("Live")
    page.context.clear_cookies()
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#ended")).to_contain_text("Your session has ended.")
    expect(page.locator("#send-note")).to_have_text("Your session has ended.")
    expect(idle.get_by_role("alert")).to_have_text("Your session has ended. Please sign in again.")
    expect(page.get_by_role("textbox", name="Message")).to_have_value("not sent yet")
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Sign in").click()
    sign_in(opened.value, server.admin_secret)
    expect(opened.value.get_by_role("heading", level=1)).to_have_text("sessions-typed")
    expect(page.locator("#ended")).to_be_hidden()
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#send-note")).to_have_text("Sent.")
