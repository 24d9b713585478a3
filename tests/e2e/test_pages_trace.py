"""The trace page in a browser, over a real server."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.http_client import http
from tests.waiting import eventually

pytestmark = pytest.mark.browser

MEMBERS = 60


def message(channel: str, text: object = 1, **more: Any) -> dict[str, Any]:
    return {"channel": channel, "user": "zoe", "message": text, **more}


@pytest.fixture
def stop(post: Callable[..., Any]) -> Iterator[Callable[[str], None]]:
    """Stop traces of channels when the test has ended."""
    with ExitStack() as stack:
        yield lambda channel: stack.callback(post, "/admin/trace.json", {"channel": channel, "minutes": "0"})  # type: ignore[func-returns-value]


def test_a_trace_is_started_read_and_stopped(
    open_admin: Callable[..., Page], post: Callable[..., Any]
) -> None:
    """A name with HTML in it stays text, notes appear by themselves, and the page fits a phone."""
    page = open_admin("/admin/trace", viewport={"width": 390, "height": 780})
    name = "<b>trace-eve</b>"
    page.get_by_label("called").fill(name)
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("heading", level=2).first).to_have_text(f"user {name}")
    expect(page.get_by_text("No notes yet.")).to_be_visible()
    post("/connect", {"username": name, "conn_id": "trace-eve", "channels": ["trace-e2e"]})
    post("/message", message("trace-e2e", exclude_users=[name]))
    expect(page.locator("#notes")).to_contain_text("excluded by exclude_users")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Not tracing")).to_be_visible()


def test_what_was_not_delivered_is_first_and_the_rest_is_folded(
    open_admin: Callable[..., Page], server: Any, post: Callable[..., Any], stop: Callable[[str], None]
) -> None:
    """Newest first; whatever is named leads to its page; the page stays short."""
    ids = [f"fold-{number}" for number in range(MEMBERS)]
    for conn_id in ids:
        user = "fold-out" if conn_id == "fold-1" else "fold-ann"
        post("/connect", {"username": user, "conn_id": conn_id, "channels": ["fold"]})
    post("/admin/trace.json", {"channel": "fold"})
    stop("fold")
    with ExitStack() as stack:
        for conn_id in ids:
            # Other tests look at the first page of the table of connections.
            stack.callback(post, "/disconnect", {"conn_id": conn_id})
        for conn_id in ids[:-6]:
            stack.enter_context(http.stream("GET", f"{server.url}/sse?conn_id={conn_id}"))
        live = "/admin/data/connections?search=fold-&state=live"
        eventually(lambda: server.request("GET", live).json()["found"] == MEMBERS - 6, "a stream is missing")
        page = open_admin("/admin/trace?channel=fold")
        expect(page.locator("#notes tbody tr").first).to_contain_text("attached")
        post("/message", message("fold"))
        first = page.locator("#notes tbody tr").first
        expect(first.locator(".undelivered")).to_have_text("6 × waits in the log: it never had a stream")
        expect(first.get_by_role("link", name="fold-59")).to_have_count(0)
        first.get_by_text("3 more").click()
        post("/message", message("fold", exclude_users=["fold-out"]))
        expect(page.locator("#notes tbody tr").first).to_contain_text("1 × excluded by exclude_users")
        second = page.locator("#notes tbody tr").nth(1)
        expect(second.get_by_role("link", name="fold-59").first).to_be_visible()
        second.get_by_text("54 × delivered").click()
        expect(second.get_by_text("10 are only counted.")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollHeight") < 3000
        second.get_by_role("link", name="fold-59").first.click()
        expect(page.get_by_role("heading", level=1)).to_have_text("fold-59")


def test_notes_are_filtered_and_wait_while_one_reads(
    open_admin: Callable[..., Page], post: Callable[..., Any], stop: Callable[[str], None]
) -> None:
    """A paused page counts what is new."""
    post("/connect", {"username": "sift", "conn_id": "sift", "channels": ["sift", "sift-2"]})
    for channel in ("sift", "sift-2"):
        post("/message", message(channel))
    post("/admin/trace.json", {"channel": "sift"})
    stop("sift")
    post("/message", message("sift"))
    post("/message", message("sift", exclude_users=["sift"]))
    page = open_admin("/admin/trace?channel=sift")
    rows = page.locator("#notes tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("excluded by exclude_users")
    page.get_by_text("Filter", exact=True).first.click()
    page.get_by_label("Outcome").select_option("excluded by exclude_users")
    page.get_by_role("button", name="Filter").click()
    expect(rows).to_have_count(1)
    page.get_by_role("button", name="Pause").click()
    post("/message", message("sift"))
    post("/message", message("sift", exclude_users=["sift"]))
    page.get_by_role("button", name="Resume (1 new)").click()
    expect(rows).to_have_count(2)
    page.get_by_role("link", name="Show all").click()
    expect(rows).to_have_count(4)


def test_payloads_are_shown_on_demand_with_who_asked(
    open_admin: Callable[..., Page], post: Callable[..., Any], stop: Callable[[str], None]
) -> None:
    """At the head, at each payload and in the list of traces; a payload is text, and what is hidden in it has a mark."""
    name = "payload-page"
    post("/connect", {"username": "payload-ann", "conn_id": "payload-page", "channels": [name]})
    page = open_admin(f"/admin/trace?channel={name}", viewport={"width": 390, "height": 780})
    page.get_by_label("with payload").check()
    page.get_by_role("button", name="Start").click()
    stop(name)
    expect(page.locator("#asked")).to_contain_text("With payload, started by admin at ")
    post("/message", message(name, "<b>\u202e" + "x" * 3000))
    row = page.locator("#notes tbody tr").first
    expect(row.locator(".payload")).to_contain_text('"<b>U+202Exxx')
    expect(row).to_contain_text("The rest of the 3,008 bytes is cut off.")
    expect(row.locator(".payload-mark")).to_contain_text("With payload, started by admin at ")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.reload()
    listed = page.locator("p").filter(has_text=f"channel {name}")
    expect(listed.last).to_contain_text("with payload, started by admin")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#notes tbody tr").first).to_contain_text("message in")
    expect(page.locator(".payload")).to_have_count(0)
    expect(page.locator("#asked")).to_be_hidden()
