"""Secrets with which the server starts, and that its log warns of."""

import json
from pathlib import Path

import pytest
from tests.conftest import launch

from channelstream.config import Settings, check_safety
from channelstream.config.app_section import AppSection
from channelstream.config.weak_secrets import warnings

LONG = "l" * 16
SHOP = AppSection("shop", {"secret": "shop", "admin_secret": "tiny", "pusher_secret": LONG})
KNOWN = AppSection(
    "kit", {"secret": "YOURSECRET", "admin_secret": "admin_secret", "pusher_secret": "kit-secret"}
)
EMPTY = AppSection("blog", {"secret": LONG})


@pytest.mark.parametrize(
    ("settings", "weak"),
    [
        (Settings(), []),
        (Settings(secret="s" * 15), ["[channelstream] secret"]),
        (Settings(secret=LONG, admin_secret="tiny", admin_reader_secret="peep"), []),
        (Settings(cookie_secret="salt"), ["[channelstream] cookie_secret"]),
        (Settings(cookie_secret="secret"), ["[channelstream] cookie_secret"]),
        (Settings(cookie_secret="salt", apps=(SHOP,)), ["[channelstream] cookie_secret", "[app:shop] secret"]),
        (Settings(pusher_secret="p"), ["[channelstream] pusher_secret"]),
        (Settings(pusher_secret="secret"), []),
        (Settings(apps=(SHOP,)), ["[app:shop] secret"]),
        (Settings(trusted_proxies=("10.0.0.1",)), ["[channelstream] secret", "[channelstream] admin_secret"]),
        (Settings(apps=(KNOWN,)), []),
        (
            Settings(trusted_proxies=("10.0.0.1",), secret="", admin_secret="", apps=(KNOWN, EMPTY)),
            [
                "[channelstream] secret",
                "[app:kit] secret",
                "[app:kit] admin_secret",
                "[app:kit] pusher_secret",
            ],
        ),
        (Settings(unix_socket="/run/c.sock", trusted_proxies=("127.0.0.1",), secret=LONG, pusher_secret="secret"),
         ["[channelstream] admin_secret", "[channelstream] pusher_secret"]),
        (Settings(trusted_proxies=("10.0.0.1",), secret=LONG, admin_secret="tiny"), []),
        (Settings(host="0.0.0.0", secret="mine", admin_secret="tiny"), ["[channelstream] secret"]),
    ],
)  # fmt: skip
def test_secrets_that_can_be_known_or_guessed(settings: Settings, weak: list[str]) -> None:
    """A key that signs is guessed from its signature; a password is not. A default one is known to all behind a proxy.

    The same holds for each application; one without a password has no sign-in.
    """
    found = list(warnings(settings))
    assert [each.split(" has ")[0] for each in found] == weak
    assert all(each.endswith("; set it to what `channelstream make-config` writes") for each in found)


def test_every_secret_of_a_file_counts(tmp_path: Path) -> None:
    """An older secret that is still accepted can be guessed as well; of a file that is missing `safety` tells."""
    path = tmp_path / "secrets"
    path.write_text(f"{LONG}\nshort\n")
    path.chmod(0o600)
    assert [each.split(" has ")[0] for each in warnings(Settings(secret_file=str(path)))] == [
        "[channelstream] secret"
    ]
    assert list(warnings(Settings(secret_file=str(tmp_path / "none")))) == []


def test_keys_that_are_refused_for_their_secrets_are_named(tmp_path: Path) -> None:
    """Those of the file, but for revoked ones, which have none."""
    path = tmp_path / "keys"
    keys = [
        {"id": "good", "secret": "s" * 32},
        {"id": "short", "secret": "hunter2"},
        {"id": "none"},
        {"id": "gone", "revoked": "2026-01-01T00:00:00Z"},
    ]
    path.write_text(json.dumps({"keys": keys}))
    path.chmod(0o600)
    [found] = warnings(Settings(keys_file=str(path)))
    assert ": short, none; `channelstream keys new`" in found
    assert "hunter2" not in found
    path.write_text(json.dumps({"keys": [{"id": f"k{number}"} for number in range(30)]}))
    assert "k18, k19, 10 more; " in next(warnings(Settings(keys_file=str(path))))
    assert list(warnings(Settings(keys_file=str(tmp_path / "missing")))) == []


def test_a_server_with_a_short_secret_serves_and_says_so_once() -> None:
    """One that moves from 0.7 on a public address keeps its secret; the log has a warning, without the secret."""
    secrets = {"secret": "pw-of-0.7", "admin_secret": "a" * 20}
    check_safety(Settings(host="0.0.0.0", **secrets))  # type: ignore[arg-type]
    server = launch("-s", secrets["secret"], CHANNELSTREAM_PUSHER_SECRET=LONG)
    server.stop()
    [line] = [line for line in server.lines if "has fewer than 16 characters" in line]
    assert "WARNING" in line
    assert "[channelstream] secret has fewer" in line
    assert secrets["secret"] not in "".join(server.lines)
