"""A headless Chromium, watched: it must log no error and send requests to our server only."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from mimetypes import guess_type
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from itsdangerous import TimestampSigner
from tests.http_client import http
from tests.line import Line
from tests.shared_servers import WINDOWS, SharedServers

if TYPE_CHECKING:  # Tests without a browser do not wait for it.
    from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request, Route, WebSocket


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

    @contextmanager
    def following(self, page: "Page") -> Iterator[None]:
        events: dict[Any, Callable[[Any], None]] = {
            "console": self._received,
            "pageerror": self._failed,
            "websocket": self._asked,
            "request": self._asked,
        }
        for event, receive in events.items():
            page.on(event, receive)
        yield
        for event, receive in events.items():
            page.remove_listener(event, receive)

    def _received(self, message: "ConsoleMessage") -> None:
        if message.type in ("error", "warning"):
            self.errors.append(f"{message.text} {message.location.get('url', '')}")

    def _failed(self, error: "Error") -> None:
        self.errors.append(str(error))

    def _asked(self, asked: "Request | WebSocket") -> None:
        self.urls.add(asked.url)

    def unexpected(self) -> list[str]:
        return [text for text in self.errors if self.expected is None or self.expected not in text]

    def foreign(self) -> list[str]:
        parts = {url: urlsplit(url) for url in self.urls}
        return [
            url for url, part in parts.items() if part.scheme != "data" and part.netloc not in self.servers
        ]


class Windows:
    """Browsers of visitors, each with one page. A used one serves other tests: it has its process and its cache already."""

    def __init__(self, chromium: "Browser") -> None:
        self._chromium = chromium
        self._free: dict[str, list[Page]] = defaultdict(list)

    @contextmanager
    def opened(self, **options: Any) -> "Iterator[Page]":
        """Lend an empty page of a browser that has these options and no cookies."""
        free = self._free[repr(options)]
        page = free.pop() if free else self._new(options)
        yield page
        for each in page.context.pages:
            each is page or each.close()
        page.unroute_all(behavior="ignoreErrors")
        page.emulate_media(color_scheme="null", reduced_motion="null")
        page.context.set_offline(False)
        page.goto("about:blank")
        page.context.clear_cookies()
        free.append(page)

    def _new(self, options: dict[str, Any]) -> "Page":
        from tests.browser import PATIENCE_MS

        context = self._chromium.new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        return context.new_page()


@pytest.fixture
def windows(shared_servers: SharedServers) -> Windows:
    """Those of one Chromium, which all tests in a browser share."""
    from tests.browser import chromium_browser

    @contextmanager
    def start() -> Iterator[Windows]:
        with chromium_browser() as chromium:
            yield Windows(chromium)

    return shared_servers.get(WINDOWS, start)


@pytest.fixture
def lines() -> Iterator[ExitStack]:
    """Closes the lines of a test after its pages: a page may still wait for an answer to what others have seen already."""
    with ExitStack() as lines:
        yield lines


@pytest.fixture
def line(server: Any, watch: Watch, lines: ExitStack) -> Line:
    port = urlsplit(server.url).port
    assert port
    line = Line(port)
    lines.callback(line.close)
    watch.servers.add(urlsplit(line.url).netloc)
    return line


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


def answering(text: str, content_type: str | None) -> "Callable[[Route], None]":
    def answer(route: "Route") -> None:
        route.fulfill(body=text, content_type=content_type)

    return answer


@pytest.fixture
def open_page(
    windows: Windows, server: Any, watch: Watch, lines: ExitStack
) -> "Iterator[Callable[..., Page]]":
    """Open pages, each in its own browser; afterwards none of them may have logged an error."""
    with ExitStack() as stack:

        def open_page(
            path: str,
            base: str = server.url,
            cookies: Sequence[Any] = (),
            answers: Mapping[str, str] = MappingProxyType({}),
            **options: Any,
        ) -> "Page":
            """Open a page.

            Args:
                answers: files that it gets in place of those of the server, by the ends of their paths.
            """
            page = stack.enter_context(windows.opened(base_url=base, **options))
            page.context.add_cookies(cookies)
            for end, text in answers.items():
                page.route(f"**/{end}", answering(text, guess_type(end)[0]))
            stack.enter_context(watch.following(page))
            page.goto(path)
            return page

        yield open_page
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


@pytest.fixture
def join(open_page: "Callable[..., Page]") -> "Callable[..., Page]":
    """Open the chat demo under a name and wait until its stream is up."""

    def join(name: str, **options: Any) -> "Page":
        from playwright.sync_api import expect

        page = open_page("/demo", **options)
        page.get_by_label("Your name").fill(name)
        page.get_by_role("button", name="Join", exact=True).click()
        expect(page.locator("#link")).to_have_text("Live")
        return page

    return join
