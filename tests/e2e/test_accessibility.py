"""Whether people who use the keyboard, a screen reader or strong contrast can use the pages, as axe-core sees it."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.e2e.accessibility import violations

pytestmark = pytest.mark.browser

EXPLORER = "/api-explorer"
NO_SWAGGER = {"swagger-ui-bundle.js": "window.SwaggerUIBundle = () => {}"}
"""Swagger UI takes long to draw and to walk with all calls: `test_the_explorer_has_no_fault` has one."""
OPEN = ("/", "/admin/sign_in", "/demo")
BEHIND_THE_DOOR = (
    "/admin/channels?search=nothing+like+it",
    "/admin/channel?name=unknown",
    "/admin/connection?name=axe-gone",
    EXPLORER,
)


@pytest.fixture
def something_to_show(post: Callable[..., Any]) -> None:
    """A channel with history, a user with state, a connection, and one that has ended."""
    for conn_id in ("axe-live", "axe-gone"):
        state = {"color": "blue", "plan": 1}
        body = {"username": "axe-ann", "conn_id": conn_id, "channels": ["axe"], "user_state": state}
        post(
            "/connect", body | {"channel_configs": {"axe": {"store_history": True, "notify_presence": True}}}
        )
    post("/message", {"channel": "axe", "user": "axe-ann", "message": {"text": "hello"}})
    post("/disconnect", {"conn_id": "axe-gone"})


@pytest.mark.parametrize("path", OPEN)
def test_open_pages_have_no_fault(open_page: Callable[..., Page], path: str) -> None:
    """Pages without a sign-in have no fault."""
    page = open_page(path)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert violations(page) == []


def test_the_chat_has_no_fault(start_server: Any, open_page: Callable[..., Page], watch: Any) -> None:
    """The demo has no fault while people talk; its server runs longer than its page, which would show an error."""
    running = start_server()
    watch.servers.add(f"127.0.0.1:{running.port}")
    page = open_page("/demo", base=running.url)
    page.get_by_label("Your name").fill("Axel")
    page.get_by_role("button", name="Join").click()
    page.get_by_label("Message", exact=True).fill("Can everybody read this?")
    page.keyboard.press("Enter")
    expect(page.locator("#messages")).to_contain_text("Can everybody read this?")
    assert violations(page) == []


@pytest.mark.usefixtures("something_to_show")
@pytest.mark.parametrize("path", BEHIND_THE_DOOR)
def test_admin_pages_have_no_fault(open_admin: Callable[..., Page], watch: Any, path: str) -> None:
    """Admin pages without rows, and about ended or unknown items, have no fault; `test_pages_matrix.py` has the others."""
    watch.expected = "404"
    page = open_admin(path, answers=NO_SWAGGER if path == EXPLORER else {})
    if page.locator("#freshness").count():
        expect(page.locator("#freshness")).to_have_text("Live")
    assert violations(page) == []


@pytest.mark.parametrize("width", [390, 1280])
def test_the_explorer_has_no_fault(open_admin: Callable[..., Page], server: Any, width: int) -> None:
    """A call with its form, its answer and the schemas has no fault; what Swagger UI lacks is completed."""
    document = server.request("GET", "/openapi.json").json()
    document["paths"] = {"/message": document["paths"]["/message"]}
    answers = {"openapi.json": json.dumps(document)}
    page = open_admin(EXPLORER, answers=answers, viewport={"width": width, "height": 800})
    operation = page.locator(".opblock-post")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table")).to_be_visible()
    assert violations(page) == []


@pytest.mark.usefixtures("something_to_show")
def test_a_question_has_no_fault(open_admin: Callable[..., Page]) -> None:
    """The dialog that asks first has no fault."""
    page = open_admin("/admin/connection?name=axe-live")
    page.get_by_role("button", name="Disconnect").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert violations(page) == []
