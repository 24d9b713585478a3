"""Access to the admin pages."""

from collections.abc import Callable
from urllib.parse import urlencode

import pytest
from httpx import Client
from starlette.requests import Request
from starlette.responses import Response
from tests.site import nothing

from channelstream.http.address_rates import AddressLimits, AddressRates
from channelstream.pages import throttle as throttling
from channelstream.pages.access import Account, Gate
from channelstream.pages.throttle import Throttle

RIGHT = {"username": "admin", "password": "open sesame"}
GUARDED = [
    "/admin",
    *(
        f"/admin/{page}"
        for page in ("channels", "users", "connections", "nodes", "channel", "user", "connection")
    ),
    *(f"/admin/data/{kind}" for kind in ("channels", "users", "connections", "nodes", "endings")),
    *(f"/admin/data/{kind}?name=known" for kind in ("channel", "user", "connection")),
    "/admin/live",
    "/admin/admin.json",
    "/admin/debug",
    "/api-explorer",
]


@pytest.fixture(autouse=True)
def _no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttling, "LONGEST_DELAY_S", 0.0)


DATA = [
    path
    for path in GUARDED
    if path.startswith(("/admin/data/", "/admin/live", "/admin/admin", "/admin/debug"))
]


@pytest.mark.parametrize("path", GUARDED)
def test_a_stranger_is_sent_to_the_form(browser: Client, path: str) -> None:
    """Without credentials a browser is answered 302 to the sign-in form, whether its user asks or a page.

    The form leads back to what was asked for.
    """
    wanted = "" if path == "/admin" else f"?{urlencode({'next': path})}"
    for headers in ({"accept": "text/html,*/*;q=0.8"}, {"sec-fetch-mode": "cors"}):
        answer = browser.get(path, headers=headers)
        assert (answer.status_code, answer.headers["location"]) == (302, f"/admin/sign_in{wanted}"), headers


@pytest.mark.parametrize("path", DATA)
def test_a_program_without_credentials_gets_401(browser: Client, path: str) -> None:
    """In the shape of all errors, with the challenge: it cannot fill in a form."""
    answer = browser.get(path)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Basic ")


@pytest.mark.parametrize("path", [*GUARDED, "/openapi.json"])
def test_basic_opens_with_any_user_name(open_browser: Callable[[], Client], path: str) -> None:
    """Scripts of the first generation send the password by HTTP Basic under any name."""
    for user in ("admin", "anybody", ""):
        assert open_browser().get(path, auth=(user, "open sesame")).status_code == 200, user


@pytest.mark.parametrize("path", [*GUARDED, "/openapi.json"])
def test_signed_requests_pass(browser: Client, path: str) -> None:
    """A valid API signature opens the pages too."""
    assert browser.get(path, headers={"x-channelstream-secret": "signed"}).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "Basic !!!",
        "Basic \xff",
        "Basic " + "AAAA",
        "basic bm9jb2xvbg==",
        "Basic YWRtaW46d3Jvbmc=",
        "Basic /w==",
    ],
)
def test_wrong_basic_credentials_get_401(browser: Client, header: str) -> None:
    """Wrong and malformed credentials are answered alike, with the challenge."""
    answer = browser.get("/admin/admin.json", headers={b"authorization": header.encode("latin-1")})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic ")


def test_other_schemes_count_as_none(browser: Client) -> None:
    """A bearer token is ignored."""
    assert browser.get("/admin", headers={"authorization": "Bearer x"}).status_code == 302


def test_basic_guessing_is_bounded_like_the_form(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the pending bound a script gets 429 and Retry-After."""
    monkeypatch.setattr(throttling, "PENDING_PER_ADDRESS", 0)
    answer = browser.get("/admin", auth=("admin", "open sesame"))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")
    form = browser.post("/admin/sign_in", data=RIGHT)
    assert form.status_code == 429
    assert "Too many sign-in attempts" in form.text


@pytest.mark.parametrize(
    ("key", "password", "opens"),
    [("crumbs", "open sesame", True), ("other", "open sesame", False), ("crumbs", "new", False)],
)
def test_tickets_are_bound_to_key_and_password(key: str, password: str, opens: bool) -> None:
    """A cookie of another key, or got with another password, opens nothing."""

    def account(password: str) -> Account:
        return Account("admin", password, may_change=True)

    def gate(cookie_secret: str, password: str) -> Gate:
        return Gate(
            [account(password)],
            cookie_secret,
            nothing,
            Throttle(AddressRates(AddressLimits()).failed_sign_ins()),
            lambda _: None,
        )

    response = Response()
    scope = {"type": "http", "scheme": "http", "path": "/admin", "headers": [], "server": ("push.test", 80)}
    gate("crumbs", "open sesame").set_ticket(Request(scope), response, account("open sesame"))
    cookie = response.headers["set-cookie"].partition(";")[0]
    again = Request({**scope, "headers": [(b"cookie", cookie.encode())]})
    assert (gate(key, password).signed_in(again) is not None) is opens


def test_a_made_up_ticket_opens_nothing(browser: Client) -> None:
    """A changed cookie is no cookie."""
    browser.post("/admin/sign_in", data=RIGHT)
    ticket = browser.cookies["auth_tkt"]
    browser.cookies.clear()
    browser.cookies["auth_tkt"] = ticket + "x"
    assert browser.get("/admin").status_code == 302


@pytest.mark.parametrize(
    "path", ["/admin/admin.json", "/openapi.json", "/metrics", "/admin", "/admin/sign_in"]
)
def test_no_header_is_sent_twice(browser: Client, path: str) -> None:
    """Refusals have the security headers and those of every answer, each once."""
    names = [name.lower() for name, _ in browser.get(path).headers.multi_items()]
    assert "x-content-type-options" in names
    assert sorted(names) == sorted(set(names))
