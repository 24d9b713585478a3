"""Signing in to the admin pages, and out."""

from collections.abc import Callable
from html import escape

import pytest
from httpx import Client
from tests.site import RecordedActs

from channelstream.config import Settings
from channelstream.pages import throttle as throttling
from channelstream.pages.signin import ENDED

RIGHT = {"username": "admin", "password": "open sesame"}


@pytest.fixture(autouse=True)
def _no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttling, "LONGEST_DELAY_S", 0.0)


def test_right_password_gives_a_cookie_that_opens_the_panel(browser: Client) -> None:
    """The answer is 302 to /admin; the cookie is HttpOnly, SameSite=Lax and lives for 30 days."""
    answer = browser.post("/admin/sign_in", data=RIGHT)
    assert (answer.status_code, answer.headers["location"]) == (302, "/admin")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("auth_tkt=")
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Max-Age=2592000" in cookie
    assert "Secure" not in cookie
    assert browser.get("/admin").status_code == 200
    assert browser.get("/admin/sign_in").headers["location"] == "/admin"


@pytest.mark.parametrize(
    ("asked", "reached"),
    [
        ("/admin/channel?name=a%26b&x=1", "/admin/channel?name=a%26b&x=1"),
        ("/api-explorer", "/api-explorer"),
        ("", "/admin"),
        ("https://evil.test/admin", "/admin"),
        ("//evil.test", "/admin"),
        ("/\\\\evil.test", "/admin"),
        ("/metrics", "/metrics"),
        ("/admin/trace.json?user=ann", "/admin/trace.json?user=ann"),
        ("/admin/sign_out", "/admin"),
        ("/admin/./sign_out", "/admin"),
        ("/admin/../../elsewhere", "/admin"),
        ("/admin/%2e%2e/%2E./elsewhere", "/admin"),
        ("/admin\nx", "/admin"),
        ("/demo", "/admin"),
        ("/admin/user?name=" + "%" * 983, "/admin/user?name=" + "%" * 983),
        ("/admin/user?name=" + "%" * 984, "/admin"),
    ],
)
def test_a_sign_in_leads_to_the_page_that_was_asked_for(browser: Client, asked: str, reached: str) -> None:
    """Also after a wrong password; never to another site, nor to a page that needs no sign-in."""
    form = browser.get("/admin/sign_in", params={"next": asked}).text
    assert f'name="next" value="{escape(reached)}"' in form
    again = browser.post(
        "/admin/sign_in", data={"username": "admin", "password": "wrong", "next": asked}
    ).text
    assert f'name="next" value="{escape(reached)}"' in again
    assert browser.post("/admin/sign_in", data=RIGHT | {"next": asked}).headers["location"] == reached
    assert browser.get("/admin/sign_in", params={"next": asked}).headers["location"] == reached


def test_the_page_that_was_asked_for_has_no_prefix_of_a_proxy(open_browser: Callable[..., Client]) -> None:
    """The sign-in adds it again."""
    browser = open_browser(prefix="/push")
    location = browser.get("/push/admin/users").headers["location"]
    assert location == "/push/admin/sign_in?next=%2Fadmin%2Fusers"
    answer = browser.post("/push/admin/sign_in", data=RIGHT | {"next": "/admin/users"})
    assert answer.headers["location"] == "/push/admin/users"


def test_cookie_is_secure_over_https(open_browser: Callable[..., Client]) -> None:
    """Over TLS the cookie never travels in the clear."""
    browser = open_browser("https://push.test")
    assert "Secure" in browser.post("/admin/sign_in", data=RIGHT).headers["set-cookie"]


@pytest.mark.parametrize(
    "fields",
    [
        {"username": "admin", "password": "wrong"},
        {"username": "root", "password": "open sesame"},
        {"username": "admin"},
        {},
        {str(number): "x" for number in range(40)},
    ],
)
def test_wrong_credentials_show_the_form_again(browser: Client, fields: dict[str, str]) -> None:
    """The answer is 200, the form with a message, and no cookie."""
    answer = browser.post("/admin/sign_in", data=fields)
    assert answer.status_code == 200
    assert "User name or password is wrong." in answer.text
    assert "set-cookie" not in answer.headers
    assert browser.get("/admin").status_code == 302


def test_the_typed_name_is_kept(browser: Client) -> None:
    """After a wrong password only the password has to be typed again; a name is text, and bounded."""
    form = browser.post("/admin/sign_in", data={"username": '"><b>ann', "password": "wrong"}).text
    assert 'value="&#34;&gt;&lt;b&gt;ann" required>' in form
    assert 'type="password" autocomplete="current-password" required autofocus>' in form
    long = browser.post("/admin/sign_in", data={"username": "x" * 3000, "password": "wrong"}).text
    assert f'value="{"x" * 512}"' in long


def test_the_form_says_that_a_session_has_ended(browser: Client, other_browser: Client) -> None:
    """To a browser with a cookie that is not valid any more, and to one that comes from a page that was open."""
    assert ENDED not in browser.get("/admin/sign_in").text
    assert ENDED in browser.get("/admin/sign_in?ended=1").text
    other_browser.cookies["auth_tkt"] = "of another key"
    answer = other_browser.get("/admin/users")
    assert ENDED in other_browser.get(answer.headers["location"]).text


def test_a_body_that_is_no_form_signs_nobody_in(browser: Client) -> None:
    """Bytes that are not text, and bodies beyond the bound, are answered and change nothing."""
    assert browser.post("/admin/sign_in", content=b"\xff\xfe").status_code == 200
    assert browser.post("/admin/sign_in", content=b"x" * 5000).status_code == 413


def test_another_site_cannot_sign_a_browser_in(browser: Client) -> None:
    """A form posted from elsewhere is refused, even with the right password."""
    answer = browser.post("/admin/sign_in", data=RIGHT, headers={"origin": "http://evil.test"})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_signing_out_takes_the_cookie(browser: Client, method: str) -> None:
    """Afterwards the panel sends to the form again."""
    browser.post("/admin/sign_in", data=RIGHT)
    assert browser.request(method, "/admin/sign_out").headers["location"] == "/admin/sign_in"
    assert browser.get("/admin").headers["location"] == "/admin/sign_in"


@pytest.mark.parametrize("settings", [Settings(admin_secret="", cookie_secret="crumbs")])
def test_an_empty_password_opens_nothing(browser: Client) -> None:
    """Without a password no sign-in succeeds, neither with the form nor with Basic."""
    assert browser.post("/admin/sign_in", data={"username": "admin", "password": ""}).status_code == 200
    assert browser.get("/admin", auth=("admin", "")).status_code == 401


def test_links_keep_the_prefix_a_proxy_stripped(open_browser: Callable[..., Client]) -> None:
    """Behind a proxy that strips a prefix, links, redirects and cookie carry it."""
    browser = open_browser(prefix="/push")
    assert 'action="/push/admin/sign_in"' in browser.get("/push/admin/sign_in").text
    answer = browser.post("/push/admin/sign_in", data=RIGHT)
    assert answer.headers["location"] == "/push/admin"
    assert "Path=/push" in answer.headers["set-cookie"]


def test_sign_ins_and_sign_outs_are_recorded(browser: Client, acts: RecordedActs) -> None:
    """Who cannot sign in is named only if the name is one: it may be a password in the wrong field."""
    browser.post("/admin/sign_in", data={"username": "open sesame", "password": "admin"})
    browser.post("/admin/sign_in", data={"username": "admin", "password": "wrong"})
    browser.get("/admin", auth=("", "wrong"))
    browser.post("/admin/sign_in", data={"username": "reader", "password": "peep"})
    browser.post("/admin/sign_out")
    browser.post("/admin/sign_out")
    assert [(act.who, act.address, act.did, act.more) for act in acts.recorded] == [
        ("", "127.0.0.1", "failed to sign in", "under an unknown name"),
        ("", "127.0.0.1", "failed to sign in", "as admin"),
        ("", "127.0.0.1", "failed to sign in", "by HTTP Basic"),
        ("reader", "127.0.0.1", "signed in", ""),
        ("reader", "127.0.0.1", "signed out", ""),
    ]


NOT_KEPT = "A restart signs you out: the option <code>cookie_secret</code> is not set."


def test_a_configured_key_keeps_sign_ins_over_a_restart(browser: Client) -> None:
    """The overview says nothing about restarts then."""
    browser.post("/admin/sign_in", data=RIGHT)
    assert NOT_KEPT not in browser.get("/admin").text


@pytest.mark.parametrize("settings", [Settings(admin_secret="open sesame")])
def test_the_overview_says_that_a_restart_ends_sign_ins(browser: Client) -> None:
    """Where the key of cookies was drawn at the start."""
    browser.post("/admin/sign_in", data=RIGHT)
    assert NOT_KEPT in browser.get("/admin").text
