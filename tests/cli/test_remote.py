"""The server as client commands see it."""

import ssl
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from channelstream.cli.remote import Server, add_server_flags, checked_url, server_of, url_of
from channelstream.config import Settings
from channelstream.config.flags import OneLineParser
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


SHOP = "[channelstream]\nsecret = of the server\nport = 81\n[app:shop]\nsecret = of the shop\n"


@pytest.mark.parametrize(
    ("flags", "url", "secret"),
    [
        ("-i FILE", "http://127.0.0.1:81", "of the server"),
        ("-i FILE --app shop", "http://127.0.0.1:81/app/shop", "of the shop"),
        ("-i FILE --app shop -s mine", "http://127.0.0.1:81/app/shop", "mine"),
        ("--url https://push.example/x --app blog -s mine", "https://push.example/x/app/blog", "mine"),
    ],
)
def test_an_application_of_the_settings_is_named(tmp_path: Path, flags: str, url: str, secret: str) -> None:
    """Its section has its secret; without one the command line has to."""
    server = server_of(arguments_of(tmp_path, flags), {})
    assert (server.url, server.secret) == (url, secret)


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (
            "-i FILE --app blog",
            r"--app: there is no section \[app:blog\]; name its file with -i, or its secret with -s",
        ),
        ("-i FILE --app ../x", "--app: the id of an application has 1 to 32"),
        ("-i FILE --app default", "--app: the default application has the options of"),
    ],
)
def test_an_unknown_application_is_refused(tmp_path: Path, flags: str, complaint: str) -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigError, match=complaint):
        server_of(arguments_of(tmp_path, flags), {})


def arguments_of(folder: Path, flags: str) -> Namespace:
    path = folder / "apps.ini"
    path.write_text(SHOP)
    parser = OneLineParser("channelstream publish")
    add_server_flags(parser)
    return parser.parse_strictly(flags.replace("FILE", str(path)).split())
