"""The server as client commands see it."""

import ssl
from typing import Any

import pytest

from channelstream.cli.remote import Server, checked_url, url_of
from channelstream.config import Settings
from channelstream.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        (Settings(), "http://127.0.0.1:8000"),
        (Settings(host="0.0.0.0", port=1), "http://127.0.0.1:1"),
        (Settings(host=""), "http://127.0.0.1:8000"),
        (Settings(host="::"), "http://[::1]:8000"),
        (Settings(host="2001:db8::1"), "http://[2001:db8::1]:8000"),
        (Settings(host="push.example"), "http://push.example:8000"),
        (Settings(ssl_certfile="c.pem"), "https://127.0.0.1:8000"),
        (Settings(host="0.0.0.0", unix_socket="/run/c.sock"), "http://127.0.0.1:8000"),
    ],
)
def test_url(settings: Settings, url: str) -> None:
    """The server is reached where it listens, by loopback if it listens everywhere."""
    assert url_of(settings) == url


@pytest.mark.parametrize("text", ["127.0.0.1:8000", "ftp://x", "http://", "http://x:port", "http://\n"])
def test_faulty_url(text: str) -> None:
    """An address that is no http address is refused in one line."""
    with pytest.raises(ConfigError, match=r"^--url: [^\n]*$"):
        checked_url(text)


def test_url_with_a_prefix() -> None:
    """A path in the address is kept, a slash at its end is not."""
    assert checked_url("https://push.example/prefix/") == "https://push.example/prefix"


def test_certificates_are_verified_however_the_scheme_is_written() -> None:
    """A scheme has no case (RFC 3986, 3.1)."""
    assert checked_url("HTTPS://Push.example") == "https://Push.example"
    context = Server("HTTPS://push.example", "x").tls()
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_repr_hides_the_secret() -> None:
    """The text of a server holds no secret."""
    assert "hunter2" not in repr(Server("http://x", "hunter2"))


@pytest.mark.parametrize("signing", ["any", "signed", "old"])
def test_commands_sign_as_the_server_wants(start_server: Any, signing: str) -> None:
    """Its settings say so; also below the path of an application, or one that a proxy strips."""
    server = start_server("--request-signing", signing, CHANNELSTREAM_APP_SHOP_SECRET="of the shop")
    for path, secret in (("", server.secret), ("/app/shop", "of the shop")):
        remote = Server(server.url + path, secret, signs_old=signing == "old")
        assert remote.get("/info", {"a": "b c"}, dict, "channels")["channels"] == {}
        assert remote.post("/info", {}, dict, "channels")["channels"] == {}
