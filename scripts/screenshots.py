"""Takes the screenshots in docs/img: a real server with traffic, and the real pages in headless Chromium."""

import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
from itsdangerous import TimestampSigner
from playwright.sync_api import Browser, Page, sync_playwright
from websockets.sync.client import connect

SECRET, ADMIN_SECRET = "of the pictures", "of the admin"
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
PAUSE_S = 0.1
"""Pause between two messages."""
SETTLE_MS = 1500
"""Time for a live page to be drawn."""
CHANNELS = ("news", "orders/eu", "orders/us", "scores", "support", "ticker")
ROOMS = 10_000
"""Additional channels without messages."""
USERS = (
    "ann",
    "bob",
    "cecilia",
    "dmitri",
    "elena",
    "farid",
    "grace",
    "hiro",
    "ines",
    "jonas",
    "kofi",
    "lena",
)
SETTINGS = {"notify_presence": True, "store_history": True, "history_size": 20}
CHAT = (
    ("Ann", "The new release is out. Has anybody tried it?"),
    ("Bob", "On two machines since this morning. Reconnects are instant now."),
    ("Ann", "And nothing is lost on the way: the page asks from where it was."),
    ("Bob", "I pulled the cable to see. It came back with what I had missed, in order."),
    ("Ann", "Then let us switch the others over after lunch."),
)
PICTURES: tuple[tuple[str, str, int, str], ...] = (
    ("admin", "/admin", 1280, "light"),
    ("admin-phone", "/admin", 390, "dark"),
    ("channels", "/admin/channels?sort=connections&descending=true", 1280, "dark"),
    ("channel", "/admin/channel?name=orders%2Feu", 1280, "light"),
    ("connection", "/admin/connection?name=ann-1", 768, "light"),
)
"""Screenshots of the admin pages: name, path, width in pixels, colour scheme."""


class Application:
    """A web application that publishes to the server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._signer = TimestampSigner(SECRET)

    def post(self, path: str, body: Any) -> None:
        headers = {"x-channelstream-secret": self._signer.sign(path).decode()}
        httpx.post(self.url + path, json=body, headers=headers).raise_for_status()

    def talk(self, ended: threading.Event) -> None:
        """Publish to the channels at a varying rate until it is stopped."""
        chance = random.Random(7)
        load = 5.0
        while not ended.wait(PAUSE_S):
            load = min(20.0, max(1.0, load + chance.uniform(-2, 2)))
            self.post("/message", [self._message(chance) for _ in range(round(load))])

    @staticmethod
    def _message(chance: random.Random) -> dict[str, Any]:
        order = {"order": chance.randrange(10_000, 99_999), "total": chance.randrange(5, 400)}
        return {"channel": chance.choice(CHANNELS), "user": chance.choice(USERS), "message": order}


@contextmanager
def served() -> Iterator[Application]:
    """Run a server while the screenshots are taken."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    flags = ["-p", str(port), "-s", SECRET, "-a", ADMIN_SECRET]
    process = subprocess.Popen([sys.executable, "-m", "channelstream", *flags])
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(url)
        yield Application(url)
    finally:
        process.terminate()
        process.wait(20)


def wait_for(url: str) -> None:
    for _ in range(100):
        try:
            httpx.get(url)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("screenshots: the server did not start")


@contextmanager
def audience(application: Application) -> Iterator[None]:
    """Create channels, connect users, and publish while the block runs."""
    ended = threading.Event()
    application.post("/channel_config", dict.fromkeys(CHANNELS, SETTINGS))
    for start in range(0, ROOMS, 1000):
        rooms: dict[str, Any] = {f"room-{number:05}": {} for number in range(start, start + 1000)}
        application.post("/channel_config", rooms)
    with ExitStack() as streams:
        for number, user in enumerate(USERS):
            streams.enter_context(listening(application, user, CHANNELS[: 2 + number % 5], f"{user}-1"))
        for user in USERS[:3]:
            with listening(application, user, ("news",), f"{user}-2"):
                pass
            application.post("/disconnect", {"conn_id": f"{user}-2"})
        talking = threading.Thread(target=application.talk, args=(ended,))
        talking.start()
        try:
            yield
        finally:
            ended.set()
            talking.join()


@contextmanager
def listening(application: Application, user: str, channels: tuple[str, ...], conn_id: str) -> Iterator[None]:
    """Hold a WebSocket of a user and read from it."""
    state = {"status": "available", "plan": "pro"}
    body = {"username": user, "conn_id": conn_id, "channels": channels, "user_state": state}
    application.post("/connect", body | {"state_public_keys": ["status"]})
    with connect(f"{application.url.replace('http', 'ws', 1)}/ws?conn_id={conn_id}&since=") as stream:
        threading.Thread(target=lambda: [None for _ in stream], daemon=True).start()
        yield
        stream.close(1001)


def open_page(browser: Browser, url: str, path: str, width: int, scheme: Any) -> Page:
    """Open a page of the server in a new browser context."""
    context = browser.new_context(
        base_url=url, viewport={"width": width, "height": 800}, color_scheme=scheme, locale="en-GB"
    )
    page = context.new_page()
    page.goto(path)
    return page


def take(page: Page, name: str, *, whole: bool = False) -> None:
    page.wait_for_timeout(SETTLE_MS)
    page.screenshot(path=IMAGES / f"{name}.png", full_page=whole)
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


def sign_in(page: Page) -> None:
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill(ADMIN_SECRET)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/admin")


def take_admin(browser: Browser, url: str) -> None:
    for name, path, width, scheme in PICTURES:
        page = open_page(browser, url, "/admin/sign_in", width, scheme)
        sign_in(page)
        page.goto(path)
        page.get_by_text("Live", exact=True).wait_for()
        take(page, name)
        page.context.close()


def take_explorer(browser: Browser, url: str) -> None:
    page = open_page(browser, url, "/admin/sign_in", 1280, "light")
    sign_in(page)
    page.goto("/api-explorer")
    page.locator(".opblock").first.wait_for()
    take(page, "explorer")


def main() -> None:
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        raise SystemExit(f"screenshots: none of {', '.join(CHROMIUM)} is on the PATH")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with served() as application, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        with audience(application):
            time.sleep(TRAFFIC_S)
            take_admin(browser, application.url)
            take_explorer(browser, application.url)
        take_demo(browser, application.url)
        browser.close()


main()
