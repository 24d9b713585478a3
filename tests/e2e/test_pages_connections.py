"""The connections of a server in a browser: who they are, how far they are behind, and those that are asked for."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect
from tests.waiting import PATIENCE_S
from websockets.sync.client import connect

pytestmark = pytest.mark.browser


def test_a_connection_shows_its_client_and_its_lag(
    open_admin: Callable[..., Page], post: Callable[..., Any], server: Any
) -> None:
    """Address, User-Agent and time of its stream; and what it has missed since the stream was lost."""
    post("/connect", {"username": "lag-ann", "conn_id": "lag-1", "channels": ["lag"]})
    page = open_admin("/admin/connection?name=lag-1")
    facts = page.locator("#facts")
    expect(facts).to_contain_text("Behindnothing")
    url = f"{server.ws_url}/ws?conn_id=lag-1&since="
    with connect(url, user_agent_header="Lag Browser/1.0") as socket:
        socket.recv(timeout=PATIENCE_S)
        expect(facts).to_contain_text("Address127.0.0.1")
        expect(facts).to_contain_text("User agentLag Browser/1.0")
        expect(facts).to_contain_text("Behindnothing")
        socket.close(1001, "away")
    expect(facts).to_contain_text("Statedetached")
    post("/message", [{"channel": "lag", "user": "bob", "message": number} for number in range(3)])
    expect(facts).to_contain_text("Behind3 events, ")


def test_connections_are_filtered(
    open_admin: Callable[..., Page], post: Callable[..., Any], server: Any
) -> None:
    """By state and by transport; the choice is in the address of the page."""
    for name in ("filter-new", "filter-open"):
        post("/connect", {"username": name, "conn_id": name, "channels": ["filter"]})
    page = open_admin("/admin/connections?search=filter-")
    rows = page.locator("#rows tbody tr")
    expect(rows).to_have_count(2)
    with connect(f"{server.ws_url}/ws?conn_id=filter-open&since=") as socket:
        socket.recv(timeout=PATIENCE_S)
        page.get_by_label("Transport").select_option("WebSocket")
        expect(rows).to_have_count(1)
        expect(rows).to_contain_text("filter-open")
        page.get_by_label("State").select_option("new")
        expect(page.locator("#rest")).to_have_text("Nothing found.")
        page.get_by_label("Transport").select_option("all")
        expect(rows).to_contain_text("filter-new")
        page.reload()
        expect(page.get_by_label("State")).to_have_value("new")
        expect(rows).to_have_count(1)


def test_a_table_of_too_many_rows_says_which_it_has(open_admin: Callable[..., Page]) -> None:
    """Of the connections of several nodes the first pages can be asked for; of a table that has all rows nothing is said."""
    page = open_admin()

    def many(route: Route) -> None:
        counts = {"found": 3_000, "total": 3_000, "pages": 20, "reachable": 1_000}
        route.fulfill(json=route.fetch().json() | counts)

    page.goto("/admin/connections")
    expect(page.locator("#page")).to_contain_text("of")
    expect(page.locator("#rest")).not_to_contain_text("first")
    page.route("**/data/connections?*", many)
    page.reload()
    expect(page.locator("#rest")).to_have_text(
        "These pages have the first 1,000: a search or a filter finds the others."
    )


def test_pages_lead_to_each_other(open_admin: Callable[..., Page], post: Callable[..., Any]) -> None:
    """From a user to its connection, to a channel, to the connection in it, to its user; and from endings to both."""
    post("/connect", {"username": "way-ann", "conn_id": "way-1", "channels": ["way"]})
    page = open_admin("/admin/user?name=way-ann")
    heading = page.get_by_role("heading", level=1)
    for section, name in (
        ("connections", "way-1"),
        ("channels", "way"),
        ("connections", "way-1"),
        ("facts", "way-ann"),
    ):
        page.locator(f"#{section}").get_by_role("link", name=name, exact=True).click()
        expect(heading).to_have_text(name)
    post("/disconnect", {"conn_id": "way-1"})
    page.locator("#endings").get_by_role("link", name="way-1").click()
    expect(page.locator("#facts")).to_contain_text("Stateclosed")
    page.locator("#facts").get_by_role("link", name="way-ann").click()
    expect(page.locator("#endings")).to_contain_text("Connection ended: disconnected by the application")
