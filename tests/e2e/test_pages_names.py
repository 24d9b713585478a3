"""Names of strangers in a browser."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

MARKED = {
    "names-\u202ekcab": "names-U+202Ekcab",
    "names-zero\u200bwidth": "names-zeroU+200Bwidth",
    "names-joined\u200d": "names-joinedU+200D",
    "names-\u3164filler": "names-U+3164filler",
    "names-end ": "names-endU+0020",
    "names-nbsp\u00a0x": "names-nbspU+00A0x",
    "names-علی\u200cرضا": "names-علی\u200cرضا",
    "names-👩\u200d💻": "names-👩\u200d💻",
    "names-क\u094d\u200dष": "names-क\u094d\u200dष",
}
"""What the pages show for a name: a joiner that a script or an emoji needs is no fault."""


def test_what_is_invisible_in_names_is_marked(
    open_admin: Callable[..., Page], post: Callable[..., Any]
) -> None:
    """In tables and lists, in the heading and the title of the page, and in questions; the link leads to the real name."""
    post("/channel_config", {name: {} for name in MARKED})
    post("/connect", {"username": "names-ann", "conn_id": "names-ann", "channels": list(MARKED)})
    page = open_admin("/admin/channels?search=names-")
    expect(page.locator("#rows tbody tr")).to_have_count(len(MARKED))
    assert set(page.locator("#rows td:first-child").all_text_contents()) == set(MARKED.values())
    assert page.locator("#rows td:first-child a > bdi").count() == len(MARKED)
    page.get_by_role("link", name="names-U+202Ekcab").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("names-U+202Ekcab")
    expect(page).to_have_title("names-[U+202E]kcab · Channel · channelstream")
    expect(page.locator("#users")).to_contain_text("names-ann")
    page.get_by_label("Keep a history").check()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog")).to_contain_text("Change the settings of names-U+202Ekcab?")
    page.goto("/admin/connection?name=names-ann")
    expect(page.locator("#channels li")).to_have_count(len(MARKED))
    assert set(page.locator("#channels li").all_text_contents()) == set(MARKED.values())
    page.goto(f"/admin/trace?user={quote('names-' + chr(0x202E) + 'x')}")
    expect(page.get_by_role("heading", level=2).first).to_have_text("user names-U+202Ex")
