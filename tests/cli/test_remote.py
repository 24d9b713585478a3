"""The server as client commands see it."""

import json
import ssl
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from channelstream.cli.remote import Server, add_server_flags, checked_url, server_of, url_of
from channelstream.cli.signing_key import SigningKey
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
def test_the_server_is_reached_where_it_listens(settings: Settings, url: str) -> None:
    """The server is reached where it listens, by loopback if it listens everywhere."""
    assert url_of(settings) == url


@pytest.mark.parametrize(
    "text", ["127.0.0.1:8000", "ftp://x", "http://", "http://x:port", "http://[", "http://\n"]
)
def test_what_is_no_http_address_is_refused(text: str) -> None:
    """An address that is no http address is refused in one line."""
    with pytest.raises(ConfigError, match=r"^--url: [^\n]*$"):
        checked_url(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://ann:hunter2@127.0.0.1:1",
        "ftp://hunter2@x/",
        "http://ann:hunter2@x:y",
        "ann:hunter2@x",
        "http:/ann:hunter2@x",
        "http://ann:a/hunter2@x",
    ],
)
def test_an_address_with_a_password_is_refused(text: str) -> None:
    """It would be in what a command says, and of no use: calls are signed. Also where the address is wrong besides."""
    with pytest.raises(ConfigError, match=r"^--url: leave out the user and the password") as refusal:
        checked_url(text)
    assert "hunter2" not in str(refusal.value)


def test_a_path_in_the_address_is_kept() -> None:
    """A path in the address is kept, a slash at its end is not."""
    assert checked_url("https://push.example/prefix/") == "https://push.example/prefix"


def test_certificates_are_verified_however_the_scheme_is_written() -> None:
    """A scheme has no case (RFC 3986, 3.1)."""
    assert checked_url("HTTPS://Push.example") == "https://Push.example"
    context = Server("HTTPS://push.example", SigningKey("", "x")).tls()
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_repr_hides_the_secret() -> None:
    """The text of a server holds no secret."""
    assert "hunter2" not in repr(Server("http://x", SigningKey("", "hunter2")))


@pytest.mark.parametrize("signing", ["any", "signed", "old"])
def test_commands_sign_as_the_server_wants(start_server: Any, signing: str) -> None:
    """Its settings say so; also below the path of an application, or one that a proxy strips."""
    server = start_server("--request-signing", signing, CHANNELSTREAM_APP_SHOP_SECRET="of the shop")
    for path, secret in (("", server.secret), ("/app/shop", "of the shop")):
        remote = Server(server.url + path, SigningKey("", secret, is_old=signing == "old"))
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
        ("--secret-file SECRETS", "http://127.0.0.1:8000", "newest"),
        ("-i FILE --secret-file SECRETS", "http://127.0.0.1:81", "newest"),
        ("-i FILE --secret-file SECRETS --app shop", "http://127.0.0.1:81/app/shop", "newest"),
        (
            "--url https://push.example --secret-file SECRETS --app blog",
            "https://push.example/app/blog",
            "newest",
        ),
        ("--secret-file SECRETS -s mine", "http://127.0.0.1:8000", "mine"),
    ],
)
def test_an_application_of_the_settings_is_named(tmp_path: Path, flags: str, url: str, secret: str) -> None:
    """Its section has its secret; without one the command line has to."""
    server = server_of(arguments_of(tmp_path, flags), {})
    assert (server.url, server.key.secret) == (url, secret)


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


KEYS = [
    {"id": "web-1", "secret": "w" * 32},
    {"id": "shop-1", "secret": "s" * 32, "app": "shop"},
    {"id": "gone", "revoked": "2026-01-01T00:00:00Z"},
]


@pytest.mark.parametrize(
    ("flags", "url", "key"),
    [
        ("-i FILE --key web-1 --keys-file KEYS", "http://127.0.0.1:81", SigningKey("web-1", "w" * 32)),
        (
            "-i FILE --key shop-1 --keys-file KEYS",
            "http://127.0.0.1:81/app/shop",
            SigningKey("shop-1", "s" * 32, "shop"),
        ),
        (
            "--url https://push.example --app shop --key shop-1 --keys-file KEYS",
            "https://push.example/app/shop",
            SigningKey("shop-1", "s" * 32, "shop"),
        ),
    ],
)
def test_a_key_of_the_file_signs(tmp_path: Path, flags: str, url: str, key: SigningKey) -> None:
    """For its application, whose path the address has."""
    server = server_of(arguments_of(tmp_path, flags), {})
    assert (server.url, server.key) == (url, key)


@pytest.mark.parametrize(
    ("flags", "app_id"), [("--key web-1", "default"), ("--key web-1 --app shop", "shop")]
)
def test_the_secret_of_a_key_may_be_in_the_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: str, app_id: str
) -> None:
    """For machines that have no file of keys; nothing warns of the variable."""
    server = server_of(arguments_of(tmp_path, flags), {"CHANNELSTREAM_KEY_SECRET": "e" * 32})
    assert server.key == SigningKey("web-1", "e" * 32, app_id)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ("--key web-1", "--key: name the file of keys with --keys-file, or set CHANNELSTREAM_KEY_SECRET"),
        ("--key web-2 --keys-file KEYS", "has no key 'web-2' that is not revoked"),
        ("--key gone --keys-file KEYS", "has no key 'gone' that is not revoked"),
        ("--key web-1 --keys-file KEYS -s x", "--key: --secret has the secret of the application"),
        (
            "--key web-1 --keys-file KEYS --secret-file SECRETS",
            "--key: --secret-file has the secret of the application",
        ),
        ("--key web-1 --keys-file KEYS --request-signing old", "--key: request_signing is old"),
        ("--key shop-1 --app blog --keys-file KEYS", "a key of the application 'shop', not of 'blog'"),
        ("--key web-1 --keys-file /none", "keys_file: '/none' cannot be read"),
    ],
)
def test_a_key_that_cannot_sign_is_refused(tmp_path: Path, flags: str, complaint: str) -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigError, match=complaint) as refusal:
        server_of(arguments_of(tmp_path, flags), {})
    assert "ssss" not in str(refusal.value)


def arguments_of(folder: Path, flags: str) -> Namespace:
    path = folder / "apps.ini"
    path.write_text(SHOP)
    keys = folder / "keys.json"
    keys.touch(0o600)
    keys.write_text(json.dumps({"keys": KEYS}))
    secrets = folder / "secrets"
    secrets.touch(0o600)
    secrets.write_text("newest\nolder\n")
    parser = OneLineParser("channelstream publish")
    add_server_flags(parser)
    paths = {"FILE": path, "KEYS": keys, "SECRETS": secrets}
    return parser.parse_strictly([str(paths.get(word, word)) for word in flags.split()])
