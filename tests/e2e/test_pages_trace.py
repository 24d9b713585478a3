"""The trace page in a browser, over a real server."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser


def test_a_trace_is_started_read_and_stopped(
    open_page: Callable[..., Page], server: Any, post: Callable[..., Any]
) -> None:
    """A name with HTML in it stays text, notes are shown after a reload, and the page fits a phone."""
    page = open_page("/admin", viewport={"width": 390, "height": 780})
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill(server.admin_secret)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).not_to_have_text("Sign in")
    page.goto("/admin/trace")
    name = "<b>trace-eve</b>"
    page.get_by_label("called").fill(name)
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("heading", level=2).first).to_have_text(f"user {name}")
    post("/connect", {"username": name, "conn_id": "trace-eve", "channels": ["trace-e2e"]})
    post("/message", {"channel": "trace-e2e", "user": "zoe", "message": 1, "exclude_users": [name]})
    page.reload()
    expect(page.locator("#notes")).to_contain_text("excluded by exclude_users")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Not tracing")).to_be_visible()
