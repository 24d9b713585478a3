"""Which right each route of the site takes: a route that declares none is closed to all but full admins."""

from collections.abc import Iterator

from httpx import Client
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tests.site import Bridge

from channelstream.pages.access import Account, Gate
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


def test_a_route_that_declares_no_right_is_for_those_who_may_change() -> None:
    async def answer(_: Request) -> Response:
        return Response("done")

    def status(account: Account, headers: dict[str, str]) -> int:
        gate = Gate([account], "crumbs", lambda _: None, Throttle())
        app = Starlette(routes=gate.routes([Row("/admin/new", answer)]))
        with Client(transport=Bridge(app, ""), base_url="http://push.test") as browser:
            return browser.get("/admin/new", auth=("", account.password), headers=headers).status_code

    assert status(Account("boss", "b", may_change=True), {}) == 200
    assert status(Account("boss", "b", may_change=True), {"origin": "https://evil.test"}) == 403
    assert status(Account("guest", "g", may_change=False), {}) == 403
