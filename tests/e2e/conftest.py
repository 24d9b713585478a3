"""A headless Chromium, watched: it must log no error and send requests to our server only."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from itsdangerous import TimestampSigner
from tests.http_client import http
from tests.line import Line

if TYPE_CHECKING:  # Tests without a browser do not wait for it.
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page


@dataclass
class Watch:
    """The console errors and requests of the pages of one test.

    Attributes:
        servers: hosts with ports that pages may ask.
        expected: a piece of the console errors that the test provokes itself.
    """

    servers: set[str]

    errors: list[str] = field(default_factory=list)
    urls: set[str] = field(default_factory=set)
    expected: str | None = None

    def follow(self, page: "Page") -> None:
        page.on("console", self._received)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("websocket", lambda websocket: self.urls.add(websocket.url))
        page.on("request", lambda request: self.urls.add(request.url))

    def _received(self, message: "ConsoleMessage") -> None:
        if message.type in ("error", "warning"):
            self.errors.append(f"{message.text} {message.location.get('url', '')}")

    def unexpected(self) -> list[str]:
        return [text for text in self.errors if self.expected is None or self.expected not in text]

    def foreign(self) -> list[str]:
        parts = {url: urlsplit(url) for url in self.urls}
        return [
            url for url, part in parts.items() if part.scheme != "data" and part.netloc not in self.servers
        ]


@pytest.fixture(scope="module")
def chromium() -> "Iterator[Browser]":
    """One Chromium for all tests of a module."""
    from tests.browser import chromium_browser

    with chromium_browser() as browser:
        yield browser


@pytest.fixture
def line(server: Any, watch: Watch) -> Iterator[Line]:
    port = urlsplit(server.url).port
    assert port
    line = Line(port)
    watch.servers.add(urlsplit(line.url).netloc)
    yield line
    line.cut()


@pytest.fixture
def post(server: Any) -> Callable[[str, Any], Any]:
    """Post to the API as an application does, and return its answer."""

    def post(path: str, body: Any) -> Any:
        headers = {"x-channelstream-secret": TimestampSigner(server.secret).sign(path).decode()}
        return http.post(server.url + path, json=body, headers=headers).raise_for_status().json()

    return post


@pytest.fixture
def watch(server: Any) -> Watch:
    return Watch({urlsplit(server.url).netloc})


@pytest.fixture
def open_page(chromium: "Browser", server: Any, watch: Watch) -> "Iterator[Callable[..., Page]]":
    """Open pages, each in its own browser; afterwards none of them may have logged an error."""
    from tests.browser import PATIENCE_MS

    contexts: list[BrowserContext] = []

    def open_page(path: str, base: str = server.url, cookies: Sequence[Any] = (), **options: Any) -> "Page":
        context = chromium.new_context(base_url=base, **options)
        context.add_cookies(cookies)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        watch.follow(page)
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert watch.unexpected() == []
    assert watch.foreign() == []


@pytest.fixture
def open_admin(open_page: "Callable[..., Page]", server: Any) -> "Callable[..., Page]":
    """Open an admin page with a signed-in session; other tests cover signing in."""
    form = {"username": "admin", "password": server.admin_secret}
    answer = http.post(f"{server.url}/admin/sign_in", data=form)
    [(name, value)] = answer.cookies.items()
    cookie = {"name": name, "value": value, "url": server.url}

    def open_admin(path: str = "/admin", **options: Any) -> "Page":
        return open_page(path, cookies=[cookie], **options)

    return open_admin
