"""Every page, of one node, two nodes and two workers: it fits any screen, logs no fault, and agrees with the others."""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from playwright.sync_api import Page, expect
from tests.conftest import launch
from tests.e2e.accessibility import violations
from tests.e2e.chat import say
from tests.e2e.signing_in import sign_in
from tests.http_client import http
from tests.redis_server import running_redis
from tests.waiting import PATIENCE_S, eventually
from websockets.sync.client import connect

pytestmark = pytest.mark.browser

WIDTHS = (390, 768, 1280, 1920)
AXE_WIDTHS = (390, 1280)
ALIKE = 2
"""Pages of one path and the same parameters that are walked; the others have the same form."""
PAGES = {"/", "/demo", "/api-explorer", "/admin", "/admin/trace"} | {
    f"/admin/{name}"
    for name in (
        "channels",
        "channel",
        "users",
        "user",
        "connections",
        "connection",
        "nodes",
        "trace",
        "acts",
        "webhooks",
    )
}
"""What the walk must come to; the others are those that links lead to as well."""
DOCUMENTS = ("/openapi.json", "/metrics")
"""Links that lead to no page."""
USERS, STREAMS = 6, 4
LONG = "a-rather-long-name-without-a-place-to-break-it-" * 3


@dataclass(frozen=True)
class Site:
    """A service that some processes make, and the addresses of its nodes."""

    nodes: list[Any]
    has_nodes: bool


@pytest.fixture(params=["one node", "two nodes", "two workers"])
def site(request: pytest.FixtureRequest, tmp_path: Path, watch: Any) -> Iterator[Site]:
    with ExitStack() as stack:
        flags: tuple[str, ...] = ()
        if request.param != "one node":
            flags = ("--engine", stack.enter_context(running_redis(tmp_path)).address)
        if request.param == "two workers":
            flags += ("--workers", "2")
        nodes = []
        for _ in range(2 if request.param == "two nodes" else 1):
            nodes.append(launch(*flags, CHANNELSTREAM_COOKIE_SECRET="of-all-nodes"))
            stack.callback(nodes[-1].stop)
        watch.servers |= {urlsplit(node.url).netloc for node in nodes}
        stack.enter_context(_visited(nodes))
        yield Site(nodes, request.param != "one node")


@contextmanager
def _visited(nodes: list[Any]) -> Iterator[None]:
    """Give the service users with open streams and without, marked channels, messages, a trace, an ending and a refusal."""
    marks = {"notify_presence": True, "notify_state": True, "store_history": True}
    with ExitStack() as stack:
        for number in range(USERS):
            node = nodes[number % len(nodes)]
            name = LONG if number == 0 else f"ann-{number}"
            state = {"status": "available", f"a key of {name}": "of some length"}
            conn_id = node.connect(
                name, "news", f"of {name}", user_state=state, channel_configs={"news": marks}
            )
            if number < STREAMS:
                stream = stack.enter_context(connect(f"{node.ws_url}/ws?conn_id={conn_id}&since="))
                stream.recv(timeout=PATIENCE_S)
        node = nodes[-1]
        node.post("/admin/trace.json", {"channel": "news", "minutes": "60", "payload": "true"})
        message = {"channel": "news", "user": LONG, "message": {"text": LONG}, "exclude_users": ["ann-1"]}
        node.post("/message", [message] * 3)
        node.post("/disconnect", {"conn_id": node.connect("gone", "news")})
        http.post(f"{node.url}/message", json=[{"secret": "wrong"}])
        yield


def open_panel(page: Page, site: Site) -> None:
    page.goto("/admin")
    sign_in(page, site.nodes[0].admin_secret)
    page.wait_for_url("**/admin")


def is_ready(page: Page, operations: int) -> None:
    """Wait until a page shows what it is about, and check that it has no fault."""
    expect(page.get_by_role("heading", level=1).first).to_be_visible()
    if page.locator("#freshness").count():
        expect(page.locator("#freshness")).to_have_text("Live")
        expect(page.locator("#fault")).to_be_hidden()
    if urlsplit(page.url).path == "/api-explorer":
        expect(page.locator("[data-path]")).to_have_count(operations)


def links(page: Page) -> list[str]:
    """Return the addresses that a page leads to, without their hosts and fragments."""
    found: list[str] = page.locator("a[href]").evaluate_all(
        "all => all.map(({ href }) => new URL(href)).filter(({ origin }) => origin === location.origin)"
        ".map(({ pathname, search }) => pathname + search)"
    )
    return [each for each in found if not each.startswith(DOCUMENTS)]


def form_of(address: str) -> tuple[str, ...]:
    """Return what pages have in common that are alike: the path, and the names of the parameters."""
    parts = urlsplit(address)
    return parts.path, *(name for name, _ in parse_qsl(parts.query))


def walk(page: Page, site: Site, look: Callable[[str], None]) -> set[str]:
    """Look at every page that links lead to from the first one; return their paths."""
    document = site.nodes[0].request("GET", "/openapi.json").json()
    operations = sum(map(len, document["paths"].values()))
    forms: Counter[tuple[str, ...]] = Counter()
    found, waiting = {"/"}, deque(["/"])
    while waiting:
        address = waiting.popleft()
        page.goto(address)
        is_ready(page, operations)
        look(address)
        for each in links(page):
            if each not in found and forms[form_of(each)] < ALIKE:
                forms[form_of(each)] += 1
                found.add(each)
                waiting.append(each)
    return {urlsplit(each).path for each in found}


def test_every_page_fits_every_screen(site: Site, open_page: Callable[..., Page]) -> None:
    """Nothing sticks out at the width of a phone, a tablet, a laptop and a large screen; axe-core finds no fault.

    Its checks take longest, so they are made where most is shown, which is where there are several nodes, and on one page
    of each form.
    """
    page = open_page("/admin/sign_in", base=site.nodes[0].url)
    faults: list[str] = []
    checked = {("/api-explorer",)}  # `test_accessibility.py` has it.

    def look(address: str) -> None:
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            wide = page.evaluate("document.documentElement.scrollWidth")
            if wide > width:
                faults.append(f"{address} is {wide} wide at {width}")
            if len(site.nodes) > 1 and width in AXE_WIDTHS and form_of(address) not in checked:
                faults.extend(f"{address} at {width}: {each}" for each in violations(page))
        checked.add(form_of(address))

    look("/admin/sign_in")
    open_panel(page, site)
    assert walk(page, site, look) >= PAGES
    page.goto("/demo")
    page.get_by_label("Your name").fill("Walker")
    page.get_by_role("button", name="Join", exact=True).click()
    expect(page.locator("#link")).to_have_text("Live")
    say(page, LONG)
    expect(page.locator("#messages")).to_contain_text(LONG)
    look("/demo, joined")
    assert faults == []


def test_totals_agree(site: Site, open_page: Callable[..., Page]) -> None:
    """The overview, the tables and the rows of the nodes have the same numbers, whichever node or worker answers."""
    page = open_page("/", base=site.nodes[0].url)
    open_panel(page, site)
    for node in site.nodes * (1 if len(site.nodes) > 1 else 3):
        page.goto(f"{node.url}/admin")
        counts = {
            "connections": USERS,
            "users": USERS + 1,
            "channels": USERS + 1,
            "streams": STREAMS,
            "published": 3,
        }
        for name, count in counts.items():
            expect(page.locator(f"#{name}")).to_have_text(str(count))
        if site.has_nodes:
            rows = page.locator("#nodes tbody tr")
            expect(rows).to_have_count(2)
            eventually(lambda: _sums(page) == (USERS, STREAMS), "the rows have other sums")
        for name in ("connections", "users", "channels"):
            page.goto(f"{node.url}/admin/{name}")
            expect(page.locator("#count")).to_have_text(str(counts[name]))
            expect(page.locator("#rows tbody tr")).to_have_count(counts[name])


def _sums(page: Page) -> tuple[int, ...]:
    """Return the connections and the streams of all rows of the table of nodes; a node that has not answered has none."""
    cells = [page.locator(f"#nodes tbody tr td:nth-child({column})").all_text_contents() for column in (4, 5)]
    return tuple(sum(int(text) for text in texts if text.isdigit()) for texts in cells)
