"""Takes the screenshots in docs/img: real servers with traffic, and the real pages in headless Chromium."""

import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pictured import (
    ADMIN_SECRET,
    QUIET,
    USERS,
    Application,
    audience,
    free_port,
    redis,
    served,
    stopped_readers,
)
from playwright.sync_api import Browser, Page, sync_playwright

IMAGES = Path(__file__).parents[1] / "docs" / "img"
CHROMIUM = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)
TRAFFIC_S = 75
"""Duration of the traffic before the first screenshot: the charts show at least a minute."""
SETTLE_MS = 1500
"""Time for a live page to be drawn."""
ROOMS = 10_000
"""Channels without messages of the service that most pictures show."""
CHAT = (
    ("Ann", "The new release is out. Has anybody tried it?"),
    ("Bob", "On two machines since this morning. Reconnects are instant now."),
    ("Ann", "And nothing is lost on the way: the page asks from where it was."),
    ("Bob", "I pulled the cable to see. It came back with what I had missed, in order."),
    ("Ann", "Then let us switch the others over after lunch."),
)
PICTURES: tuple[tuple[str, str, int, int, str], ...] = (
    ("admin", "/admin", 1280, 1640, "light"),
    ("admin-phone", "/admin", 390, 800, "dark"),
    ("channels", "/admin/channels?sort=connections&descending=true", 1280, 800, "dark"),
    ("channel", "/admin/channel?name=orders%2Feu", 1280, 800, "light"),
    ("connection", "/admin/connection?name=ann-1", 768, 800, "light"),
)
"""Screenshots of the admin pages: name, path, width and height in pixels, colour scheme."""


def open_page(browser: Browser, url: str, path: str, width: int, scheme: Any) -> Page:
    """Open a page of the server in a new browser context."""
    context = browser.new_context(
        base_url=url, viewport={"width": width, "height": 800}, color_scheme=scheme, locale="en-GB"
    )
    page = context.new_page()
    page.goto(path)
    return page


def take(page: Page, name: str, top: str = "") -> None:
    """Take a screenshot.

    Args:
        top: what is at the upper edge, as a CSS selector; by default it is the begin of the page.
    """
    page.wait_for_timeout(SETTLE_MS)
    if top:
        page.locator(top).evaluate("top => scrollTo(0, top.getBoundingClientRect().top + scrollY - 24)")
    page.screenshot(path=IMAGES / f"{name}.png")
    print(f"docs/img/{name}.png")


def take_demo(browser: Browser, url: str) -> None:
    """Chat as two users, and take screenshots of the first one's page."""
    pages = {name: open_page(browser, url, "/demo", 1280, "light") for name in ("Ann", "Bob")}
    for name, page in pages.items():
        page.get_by_label("Your name").fill(name)
        page.get_by_role("button", name="Join").click()
        page.locator("#text").wait_for()
    for name, text in CHAT:
        pages[name].locator("#text").fill(text)
        pages[name].keyboard.press("Enter")
        pages["Ann"].get_by_text(text).wait_for()
    take(pages["Ann"], "demo")


def signed_in(browser: Browser, url: str, width: int = 1280, scheme: str = "light") -> Page:
    page = open_page(browser, url, "/admin/sign_in", width, scheme)
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill(ADMIN_SECRET)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/admin")
    return page


def take_admin(browser: Browser, url: str) -> None:
    for name, path, width, height, scheme in PICTURES:
        page = signed_in(browser, url, width, scheme)
        page.set_viewport_size({"width": width, "height": height})
        page.goto(path)
        page.get_by_text("Live", exact=True).wait_for()
        take(page, name)
        page.context.close()


def take_explorer(browser: Browser, url: str) -> None:
    page = signed_in(browser, url)
    page.goto("/api-explorer")
    page.locator(".opblock").first.wait_for()
    take(page, "explorer")


def take_trouble(browser: Browser, application: Application) -> None:
    """Take the clients that do not read, and a trace that shows what they wait for."""
    with stopped_readers(application):
        page = signed_in(browser, application.url)
        page.locator("#slow tbody tr").nth(4).wait_for()
        take(page, "slow")
        page.goto("/admin/trace")
        page.get_by_label("Trace a").select_option("channel")
        page.get_by_label("called").fill(QUIET)
        page.get_by_role("button", name="Start").click()
        page.get_by_text("No notes yet.").wait_for()
        message = {"channel": QUIET, "user": "ann", "message": {"text": "We restart at noon."}}
        for excluded in (USERS[1:3], ()):
            application.post("/message", [message | {"exclude_users": excluded}])
        page.locator("#notes tr").nth(1).wait_for()
        take(page, "trace")


def take_nodes(browser: Browser, directory: Path) -> None:
    """Take the overview of two nodes on one Redis."""
    with ExitStack() as stack:
        engine = stack.enter_context(redis(directory))
        nodes = [stack.enter_context(served("--engine", engine)) for _ in range(2)]
        stack.enter_context(audience(nodes))
        time.sleep(TRAFFIC_S)
        page = signed_in(browser, nodes[0].url)
        page.locator("#nodes tbody tr").nth(1).wait_for()
        take(page, "nodes")


def take_restart(browser: Browser, directory: Path) -> None:
    """Take the past of a server with a file, which has been restarted under a page that is open."""
    flags, port = ("--engine", f"sqlite:///{directory / 'log.db'}"), free_port()
    with served(*flags, port=port) as application:
        page = signed_in(browser, application.url)
        with audience([application]):
            time.sleep(TRAFFIC_S)
    with served(*flags, port=port) as application, audience([application], resumes=True):
        time.sleep(TRAFFIC_S / 2)
        page.get_by_text("Live", exact=True).wait_for()
        take(page, "restart", top="#past-title")


def main() -> None:
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        raise SystemExit(f"screenshots: none of {', '.join(CHROMIUM)} is on the PATH")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        with served() as application:
            with audience([application], rooms=ROOMS):
                time.sleep(TRAFFIC_S)
                take_admin(browser, application.url)
                take_explorer(browser, application.url)
                take_trouble(browser, application)
            take_demo(browser, application.url)
        take_nodes(browser, directory)
        take_restart(browser, directory)
        browser.close()


main()
