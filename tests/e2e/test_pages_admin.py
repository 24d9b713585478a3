"""The admin pages in a browser, over a real server."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect
from tests.e2e.signing_in import sign_in

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Page]


def test_a_wrong_password_stays_outside(open_page: OpenPage) -> None:
    """The form is shown again and says what is wrong."""
    page = sign_in(open_page("/admin"), "wrong")
    expect(page.get_by_role("alert")).to_have_text("User name or password is wrong.")
    page.goto("/admin")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


def test_figures_are_live(start_server: Any, open_page: OpenPage, watch: Any) -> None:
    """A connection made while the overview is open appears in it, and its end is shown with its reason."""
    running = start_server()
    watch.servers.add(f"127.0.0.1:{running.port}")
    page = sign_in(open_page("/admin", base=running.url), running.admin_secret)
    expect(page.locator("#connections")).to_have_text("0")
    conn_id = running.connect("<b>admin-zoe</b>", "admin-live")
    expect(page.locator("#connections")).to_have_text("1")
    running.post("/disconnect", {"conn_id": conn_id})
    expect(page.locator("#connections")).to_have_text("0")
    ended = page.locator("#endings tr").filter(has_text=conn_id)
    expect(ended).to_contain_text("Connection ended: disconnected by the application")
    expect(ended).to_contain_text("<b>admin-zoe</b>")


def test_numbers_are_written_as_people_say_them(open_admin: Callable[..., Page]) -> None:
    """One thing is none of several, and a time has no part of zero; no line breaks before a unit."""
    page = open_admin()
    said = page.evaluate("""async () => {
      const { bytes, counted, duration } = await import(new URL("dom.js", document.querySelector("script[src]").src));
      const counts = [0, 1, 2].map((count) => counted(count, "note"));
      return [...counts, ...[0, 60, 61, 3600, 86_401, 90_000].map(duration), ...[5, 2048].map(bytes)];
    }""")
    assert said == [
        *("0 notes", "1 note", "2 notes"),
        *("0\u00a0s", "1\u00a0min", "1\u00a0min 1\u00a0s", "1\u00a0h", "1\u00a0d", "1\u00a0d 1\u00a0h"),
        *("5\u00a0B", "2\u00a0KB"),
    ]


def test_the_busiest_channels_and_callers_are_shown(open_admin: Callable[..., Page]) -> None:
    """With links to the page of a channel and to its trace; what a caller sends is text."""
    page = open_admin()
    channel = {"name": "a&b", "published": 0.123456, "deliveries": 1234.5}
    caller = {"address": "10.0.0.1", "key": "<i>key</i>", "calls": 20.0, "refused": 0.0}
    answer = {"channels": [channel], "callers": [caller]}
    page.route("**/data/busiest", lambda route: route.fulfill(json=answer))
    page.reload()
    row = page.locator("#busy-channels tbody tr")
    expect(row).to_have_text("a&b0.123/s1,230/sTrace")
    expect(row.get_by_role("link", name="a&b")).to_have_attribute(
        "href", re.compile(r"/admin/channel\?name=a%26b$")
    )
    expect(row.get_by_role("link", name="Trace")).to_have_attribute(
        "href", re.compile(r"/trace\?channel=a%26b$")
    )
    expect(page.locator("#busy-callers tbody tr")).to_have_text("10.0.0.1<i>key</i>20/s0/s")


def test_the_biggest_states_and_histories_are_read_on_demand(
    open_admin: Callable[..., Page], post: Callable[..., Any]
) -> None:
    """When their section is opened, and each time."""
    asked: list[str] = []
    page = open_admin()
    page.on("request", lambda request: asked.append(request.url))
    state = {"bio": "x" * 5000}
    post("/connect", {"username": "big-ann", "channels": [], "fresh_user_state": state})
    post("/channel_config", {"big-room": {"store_history": True}})
    post("/message", [{"channel": "big-room", "user": "x", "message": state}])
    expect(page.locator("#freshness")).to_have_text("Live")
    assert not [url for url in asked if "/data/users" in url or "/data/channels" in url]
    page.get_by_text("Biggest states and histories").click()
    expect(page.locator("#big-states tbody tr").first).to_contain_text("big-ann")
    expect(page.locator("#big-histories tbody tr").filter(has_text="big-room")).to_be_visible()
    expect(page.locator("#big-states tbody tr").first).to_contain_text("4.89 KB")


def test_an_engine_out_of_reach_is_named(open_admin: Callable[..., Page]) -> None:
    """By the nodes that have lost it, and how long the first has; else how long all have reached it, if it can fail."""
    page = open_admin()
    expect(page.locator("#engine")).to_have_text("memory")
    said = page.evaluate("""async () => {
      const { engineText } = await import(new URL("engine.js", document.querySelector("script[src$='overview.js']").src));
      const lost = (seconds) => ({ engine: "redis", engine_reachable: false, engine_for_s: seconds });
      const there = { engine: "redis", engine_reachable: true, engine_for_s: 500 };
      const sure = { ...there, engine_for_s: null };
      return [[there, { ...there, engine_for_s: 60 }], [there, lost(5)], [lost(5), lost(65)], [sure]].map(engineText);
    }""")
    assert said == [
        "redis, in reach for 1\u00a0min",
        "lost by 1 node for 5\u00a0s",
        "lost by 2 nodes for 1\u00a0min 5\u00a0s",
        "redis",
    ]


def test_a_search_that_is_typed_while_the_page_loads_is_kept(
    open_admin: Callable[..., Page], post: Callable[..., Any]
) -> None:
    """Before the page's script has run, which a slow network delays."""
    post("/channel_config", {"typed-early": {}})
    page = open_admin()
    held: list[Route] = []
    page.route("**/table.js", lambda route: held.append(route))
    with page.expect_request("**/table.js"):
        page.goto("/admin/channels", wait_until="commit")
    page.get_by_label("Find a channel").fill("TYPED-EARLY")
    for route in held:
        route.continue_()
    expect(page.locator("#found")).to_have_text("1 found")
    expect(page.get_by_label("Find a channel")).to_have_value("TYPED-EARLY")


def test_thousands_of_rows_are_searched_and_paged(
    open_admin: Callable[..., Page], post: Callable[..., Any]
) -> None:
    """A table shows fifty rows of thousands; search, order and page are kept in the address."""
    post("/channel_config", {f"rows-of-many-{number:04}": {} for number in range(1200)})
    page = open_admin()
    page.get_by_role("link", name="Channels", exact=True).click()
    page.get_by_label("Find a channel").fill("ROWS-OF-MANY-")
    expect(page.locator("#found")).to_have_text("1,200 found")
    rows = page.locator("#rows tbody tr")
    expect(rows).to_have_count(50)
    page.get_by_role("button", name="Next").click()
    expect(rows.first).to_contain_text("rows-of-many-0050")
    expect(page.locator("#page")).to_have_text("Page 2 of 24")
    page.get_by_role("button", name="Channel", exact=True).click()
    expect(rows.first).to_contain_text("rows-of-many-1199")
    expect(page.locator("th[aria-sort]")).to_have_attribute("aria-sort", "descending")
    page.reload()
    expect(rows.first).to_contain_text("rows-of-many-1199")
    page.get_by_label("Find a channel").fill("nothing like it")
    expect(page.locator("#rest")).to_have_text("Nothing found.")
    expect(page.get_by_role("button", name="Next")).to_be_hidden()


def test_settings_are_changed_after_a_question(
    open_admin: Callable[..., Page], post: Callable[..., Any]
) -> None:
    """Escape changes nothing; yes changes what was edited, and nothing else."""
    post("/channel_config", {"<i>edited</i>": {"history_size": 7}})
    page = open_admin()
    expect(page.locator("#freshness")).to_have_text("Live")
    page.goto("/admin/channel?name=%3Ci%3Eedited%3C%2Fi%3E")
    expect(page.get_by_role("heading", level=1)).to_have_text("<i>edited</i>")
    page.get_by_label("Keep a history").check()
    page.get_by_role("button", name="Save").click()
    question = page.get_by_role("dialog")
    expect(question).to_contain_text("store_history: false → true")
    page.keyboard.press("Escape")
    expect(question).to_be_hidden()
    page.get_by_role("button", name="Save").click()
    question.get_by_role("button", name="Change").click()
    expect(page.locator("#settings-note")).to_have_text("Saved.")
    settings = post("/info", {"info": {"channels": ["<i>edited</i>"]}})["channels"]["<i>edited</i>"][
        "settings"
    ]
    assert (settings["store_history"], settings["history_size"]) == (True, 7)


def test_a_message_is_sent_from_the_page(open_admin: Callable[..., Page], post: Callable[..., Any]) -> None:
    """Text becomes a message with a text, and is shown in the history as text."""
    post("/channel_config", {"admin-send": {"store_history": True}})
    page = open_admin()
    expect(page.locator("#freshness")).to_have_text("Live")
    page.goto("/admin/channel?name=admin-send")
    page.get_by_role("textbox", name="Message").fill("<img src=x onerror=alert(1)>")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#send-note")).to_have_text("Sent.")
    expect(page.locator("#messages")).to_contain_text('{"text":"<img src=x onerror=alert(1)>"}')


def test_a_question_may_be_asked_again_at_once(
    open_admin: Callable[..., Page], post: Callable[..., Any]
) -> None:
    """Before the browser has reported that the dialog was closed: no answer gets lost, or counts for both."""
    post("/connect", {"username": "admin-lee", "conn_id": "admin-lee-1", "channels": ["admin-lee"]})
    page = open_admin("/admin/connection?name=admin-lee-1")
    page.get_by_role("button", name="Disconnect").press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("Disconnect admin-lee-1?")
    page.evaluate("""() => {
        document.querySelector("dialog").close();
        [...document.querySelectorAll("main button")].find((button) => button.textContent === "Disconnect").click();
    }""")
    page.get_by_role("dialog").get_by_role("button", name="Disconnect").press("Enter")
    expect(page.locator("#endings")).to_contain_text(
        "Connection ended: disconnected by an admin (admin) (1000)"
    )


def test_a_connection_is_found_and_ended(open_admin: Callable[..., Page], post: Callable[..., Any]) -> None:
    """From the table to the user, to the connection, and to its end, with the keyboard."""
    body = {
        "username": "admin-kim",
        "conn_id": "admin-kim-1",
        "channels": ["admin-kim"],
        "user_state": {"a": "<u>"},
    }
    post("/connect", body)
    page = open_admin()
    page.get_by_role("link", name="Connections", exact=True).first.click()
    page.get_by_label("Find a connection or a user").fill("admin-kim")
    page.get_by_role("link", name="admin-kim", exact=True).press("Enter")
    expect(page.locator("#state")).to_contain_text("<u>")
    page.get_by_role("link", name="admin-kim-1").press("Enter")
    expect(page.locator("#facts")).to_contain_text("Ends unless it reconnects within")
    page.get_by_role("button", name="Disconnect").press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("Disconnect admin-kim-1?")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Disconnect").press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Disconnect").press("Enter")
    expect(page.locator("#endings")).to_contain_text(
        "Connection ended: disconnected by an admin (admin) (1000)"
    )
    expect(page.get_by_role("button", name="Disconnect")).to_be_hidden()


def test_missing_items_are_named(open_admin: Callable[..., Page], watch: Any) -> None:
    """A page about an unknown thing says so in place of its figures."""
    watch.expected = "404"
    page = open_admin()
    expect(page.locator("#freshness")).to_have_text("Live")
    page.goto("/admin/user?name=nobody-like-that")
    expect(page.get_by_role("alert")).to_have_text("There is no such user.")
    expect(page.locator("#detail")).to_be_hidden()


def test_a_cut_line_is_shown_and_reconnected(open_page: OpenPage, line: Any, server: Any, watch: Any) -> None:
    """While the server is unreachable the page says so, and it continues by itself afterwards."""
    watch.expected = "ERR_"
    page = sign_in(open_page("/admin", base=line.url), server.admin_secret)
    expect(page.locator("#freshness")).to_have_text("Live")
    line.cut()
    expect(page.locator("#freshness")).to_have_text("No answer, retrying")
    line.mend()
    expect(page.locator("#freshness")).to_have_text("Live")


def test_signing_out_closes_the_panel(open_admin: Callable[..., Page]) -> None:
    """The button leads to the form; a panel open in another tab goes there too."""
    page = open_admin()
    expect(page.locator("#freshness")).to_have_text("Live")
    other = page.context.new_page()
    other.goto("/admin")
    other.get_by_role("button", name="Sign out").click()
    expect(other.get_by_role("heading", level=1)).to_have_text("Sign in")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


def test_reasons_are_in_sight_on_a_narrow_screen(
    open_admin: Callable[..., Page], post: Callable[..., Any]
) -> None:
    """The table of what has ended has its last column, the reason, beside the others: it needs no scrolling."""
    post("/connect", {"username": "narrow-user", "conn_id": "narrow-connection", "channels": ["narrow"]})
    post("/disconnect", {"conn_id": "narrow-connection"})
    page = open_admin(viewport={"width": 500, "height": 780})
    expect(page.locator("#endings").get_by_text("narrow-connection").first).to_be_visible()
    table = page.locator(".wide", has=page.locator("#endings"))
    assert table.evaluate("wide => wide.scrollWidth <= wide.clientWidth")
