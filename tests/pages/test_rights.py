"""Which right each route of the site takes: a route that declares none is closed to all but full admins."""

from collections.abc import Iterator
from typing import Any

import pytest
from httpx import Client
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tests.site import Bridge, nothing

from channelstream.config import Settings
from channelstream.http.address_rates import AddressLimits, AddressRates
from channelstream.pages import throttle
from channelstream.pages.access import READ_ONLY, Account, Gate
from channelstream.pages.row import Row
from channelstream.pages.throttle import Throttle

OPEN = {
    "GET /",
    "GET /admin/sign_in",
    "POST /admin/sign_in",
    "GET /admin/sign_out",
    "POST /admin/sign_out",
}
"""What strangers may ask for, besides assets and the demo."""

CHANGE = {
    "POST /admin/do/disconnect",
    "POST /admin/do/give_up_webhooks",
    "POST /admin/do/message",
    "POST /admin/do/send_webhooks_again",
    "POST /admin/do/settings",
    "POST /admin/sign",
    "POST /admin/trace",
    "POST /admin/trace.json",
}
"""What only full admins may do."""
LOOK = {
    "GET /admin",
    "GET /admin/acts",
    "GET /admin/admin.json",
    "GET /admin/channel",
    "GET /admin/channels",
    "GET /admin/connection",
    "GET /admin/connections",
    "GET /admin/data/acts",
    "GET /admin/data/channel",
    "GET /admin/data/channels",
    "GET /admin/data/connection",
    "GET /admin/data/connections",
    "GET /admin/data/busiest",
    "GET /admin/data/endings",
    "GET /admin/data/history",
    "GET /admin/data/keys",
    "GET /admin/data/nodes",
    "GET /admin/data/refused",
    "GET /admin/data/slow_clients",
    "GET /admin/data/slow_turns",
    "GET /admin/data/user",
    "GET /admin/data/users",
    "GET /admin/data/webhooks",
    "GET /admin/debug",
    "GET /admin/live",
    "GET /admin/nodes",
    "GET /admin/trace",
    "GET /admin/trace.json",
    "GET /admin/trace/live",
    "GET /admin/user",
    "GET /admin/users",
    "GET /admin/webhooks",
    "GET /api-explorer",
    "GET /metrics",
    "GET /openapi.json",
    "POST /admin/admin.json",
}
"""What every admin may look at."""
READER = ("", "peep")


def routes_of(app: Starlette) -> Iterator[str]:
    """Yield methods and paths of all routes that serve no asset and not the demo."""
    for route in app.routes:
        assert isinstance(route, Route)
        if route.path.startswith(("/static/", "/demo")):
            continue
        yield from (f"{method} {route.path}" for method in sorted(route.methods or ()) if method != "HEAD")


def ask(browser: Client, route: str, **options: object) -> int:
    method, path = route.split(" ")
    return browser.request(method, path, **options).status_code  # type: ignore[arg-type]


def test_strangers_are_asked_for_credentials_everywhere(app: Starlette, browser: Client) -> None:
    """Of every route, so that a new one without a guard is found."""
    guarded = set(routes_of(app)) - OPEN
    assert set(routes_of(app)) >= OPEN
    answers = {route: ask(browser, route, headers={"accept": "text/html"}) for route in guarded}
    assert {route: status for route, status in answers.items() if status not in (302, 403)} == {}


def test_a_reader_may_look_at_everything_and_change_nothing(
    app: Starlette, browser: Client, panel: Any
) -> None:
    """With the password and with the cookie. A new route has to be added to one of the three lists."""
    assert set(routes_of(app)) == OPEN | CHANGE | LOOK
    for route in sorted(CHANGE):
        method, path = route.split(" ")
        answer = browser.request(method, path, auth=READER, content=b"{}")
        assert (answer.status_code, answer.json()["error"]) == (403, READ_ONLY), route
    assert panel.asked == []
    signed_in = browser.post("/admin/sign_in", data={"username": "reader", "password": "peep"})
    assert signed_in.status_code == 302
    for route in sorted(CHANGE):
        assert ask(browser, route, content=b"{}") == 403, route
    assert panel.asked == []


@pytest.mark.parametrize(
    "path", ["/admin", "/admin/channel", "/admin/trace", "/api-explorer", "/admin/data/endings"]
)
def test_a_reader_is_shown_the_pages(browser: Client, path: str) -> None:
    assert browser.get(path, auth=READER).status_code == 200


@pytest.mark.parametrize(
    ("user", "password", "opens"),
    [
        ("reader", "peep", True),
        ("admin", "peep", False),
        ("reader", "open sesame", False),
        ("reader", "", False),
    ],
)
def test_each_name_has_its_password(browser: Client, user: str, password: str, opens: bool) -> None:
    answer = browser.post("/admin/sign_in", data={"username": user, "password": password})
    assert (answer.status_code == 302) is opens


@pytest.mark.parametrize("settings", [Settings(secret="s", admin_secret="open sesame")])
def test_without_a_password_there_is_no_reader(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "delay_s", lambda failures: 0.0)
    for password in ("", "peep"):
        assert (
            browser.post("/admin/sign_in", data={"username": "reader", "password": password}).status_code
            == 200
        )
        assert browser.get("/admin", auth=("reader", password)).status_code == 401


@pytest.mark.parametrize(
    ("path", "offered"),
    [
        ("/admin/connection", 'id="disconnect"'),
        ("/admin/channel", 'id="send"'),
        ("/admin/channel", ">Save<"),
        ("/admin/trace", ">Start<"),
        ("/admin/trace?user=ann", ">Stop<"),
        ("/api-explorer", "<em>Execute</em>"),
    ],
)
def test_pages_offer_a_reader_nothing_to_change(browser: Client, path: str, offered: str) -> None:
    """The pages say who is signed in."""
    full, read_only = (browser.get(path, auth=("", password)).text for password in ("open sesame", "peep"))
    assert (offered in full, offered in read_only) == (True, False)
    assert "<bdi>admin</bdi></span>" in full
    assert "<bdi>reader</bdi> (read-only)</span>" in read_only


def test_a_reader_guesses_no_faster(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own sign-in does not end the delays of wrong passwords; that of a full admin does."""
    delays: list[float] = []

    seconds = throttle.delay_s
    monkeypatch.setattr(throttle, "delay_s", lambda failures: delays.append(seconds(failures)) or 0.0)
    for password in ("wrong", "peep", "wrong", "open sesame", "wrong"):
        browser.get("/admin", auth=("", password))
    assert delays == [0.5, 1.0, 0.5]


def test_a_route_that_declares_no_right_is_for_those_who_may_change() -> None:
    async def answer(_: Request) -> Response:
        return Response("done")

    def status(account: Account, headers: dict[str, str]) -> int:
        gate = Gate(
            [account],
            "crumbs",
            nothing,
            Throttle(AddressRates(AddressLimits()).failed_sign_ins()),
            lambda _: None,
        )
        app = Starlette(routes=gate.routes([Row("/admin/new", answer)]))
        with Client(transport=Bridge(app, ""), base_url="http://push.test") as browser:
            return browser.get("/admin/new", auth=("", account.password), headers=headers).status_code

    assert status(Account("boss", "b", may_change=True), {}) == 200
    assert status(Account("boss", "b", may_change=True), {"origin": "https://evil.test"}) == 403
    assert status(Account("guest", "g", may_change=False), {}) == 403
