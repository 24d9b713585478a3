"""A proxy on the machine of a server that does not know of it."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from itsdangerous import TimestampSigner
from tests.conftest import launch
from tests.http_client import http

from channelstream.config import Settings
from channelstream.untrusted_proxy import UntrustedProxy

FROM_AFAR = {"x-forwarded-for": "192.0.2.1"}
DEFAULTS = ("-s", "secret", "-a", "admin_secret")
RIGHT = {"username": "admin", "password": "admin_secret"}


@pytest.fixture
def server() -> Iterator[Any]:
    running = launch("--admin-reader-secret", "a password of one's own", *DEFAULTS)
    yield running
    running.stop()


def test_default_passwords_and_the_demo_are_for_this_machine(server: Any) -> None:
    """By a form, by HTTP Basic, and by a cookie that was given out here; passwords of one's own are for all."""
    with httpx.Client(base_url=server.url) as browser:
        refused = browser.post("/admin/sign_in", data=RIGHT, headers=FROM_AFAR)
        assert refused.status_code == 403
        assert "public default value, which admits callers on this machine only" in refused.text
        assert browser.get("/admin", auth=("", "admin_secret"), headers=FROM_AFAR).status_code == 403
        assert browser.get("/demo", headers=FROM_AFAR).status_code == 403
        assert browser.get("/demo").status_code == 200
        assert (
            browser.get("/admin", auth=("", "a password of one's own"), headers=FROM_AFAR).status_code == 200
        )
        assert browser.post("/admin/sign_in", data=RIGHT).status_code == 302
        assert [browser.get("/admin", headers=more).status_code for more in ({}, FROM_AFAR)] == [200, 302]


def test_the_log_and_the_overview_say_what_to_set(server: Any) -> None:
    """The log once, with the names of default secrets."""
    with httpx.Client(base_url=server.url, auth=("", "admin_secret")) as browser:
        text = "A proxy on this machine is not in <code>trusted_proxies</code>"
        assert text not in browser.get("/admin").text
        for _ in range(3):
            browser.get("/demo", headers=FROM_AFAR)
        assert text in browser.get("/admin").text
    _, log = server.stop()
    [line] = [line for line in [*server.lines, *log.splitlines()] if "trusted_proxies" in line]
    assert "set trusted_proxies = 127.0.0.1; [channelstream] secret has a public default value; " in line
    assert "[channelstream] admin_secret has a public default value" in line


@pytest.mark.parametrize(
    ("secret", "headers", "is_said"),
    [("secret", FROM_AFAR, True), ("secret", {}, False), ("a secret of one's own", FROM_AFAR, False)],
)
def test_a_call_with_a_default_secret_is_accepted_and_noted(
    secret: str, headers: dict[str, str], is_said: bool
) -> None:
    """As 0.7 accepts it; a stranger may have signed it. The proxy may pass on no page, by which it would be noticed."""
    own = "a secret of one's own"
    running = launch("-s", secret, "-a", own, "--pusher-secret", own)
    for _ in range(2):
        signed = {"x-channelstream-secret": TimestampSigner(secret).sign("/info").decode()}
        assert http.post(f"{running.url}/info", json={}, headers=signed | headers).status_code == 200
    _, log = running.stop()
    said = [line for line in [*running.lines, *log.splitlines()] if "trusted_proxies" in line]
    assert len(said) == is_said
    assert all("[channelstream] secret has a public default value" in line for line in said)


def test_the_log_keeps_the_proxies_that_are_trusted(caplog: pytest.LogCaptureFixture) -> None:
    """Who sets what the log says loses none."""
    UntrustedProxy(Settings(secret="s" * 32, trusted_proxies=("10.0.0.1",))).seen("127.0.0.1")
    assert "; set trusted_proxies = 10.0.0.1, 127.0.0.1" in caplog.text


def test_a_demo_that_is_on_is_for_all() -> None:
    """Also for callers of an unknown address."""
    running = launch("--demo", "true", *DEFAULTS)
    assert http.get(running.url + "/demo", headers=FROM_AFAR).status_code == 200
    running.stop()
