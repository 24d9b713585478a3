"""The file with the secrets of an application."""

from pathlib import Path

import pytest

from channelstream.config import Settings
from channelstream.config.app_section import AppSection
from channelstream.config.safety import problems
from channelstream.config.secret_file import (
    MAX_BYTES,
    MAX_SECRETS,
    pusher_secrets_of,
    read_secrets,
    secrets_in_files,
    secrets_of,
)
from channelstream.errors import ConfigError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secret"


def store(path: Path, text: str, mode: int = 0o600) -> str:
    path.touch()
    path.chmod(mode)
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        ("one", ("one",)),
        ("one\n", ("one",)),
        ("new\r\nold\r\n", ("new", "old")),
        ("\nnew\n\nold\n", ("new", "old")),
        ("new\nnew", ("new",)),
        ("3\n2\n1\n", ("3", "2", "1")),
    ],
)
def test_each_line_is_a_secret(path: Path, text: str, secrets: tuple[str, ...]) -> None:
    """The newest one first; a file of one line is what other tools write for a secret."""
    name = store(path, text)
    assert (
        read_secrets(name, "secret_file")
        == secrets_of(Settings(secret="another", secret_file=name))
        == secrets
    )


def test_without_a_file_the_option_is_the_secret() -> None:
    """As before."""
    assert secrets_of(Settings(secret="x")) == ("x",)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "has 0 secrets"),
        ("\n\n", "has 0 secrets"),
        ("1\n2\n3\n4", "has 4 secrets; it may have 1 to 3"),
        ("with blanks ", "a line of .* is not one line"),
        ("hunter2\x07", "a line of .* is not one line"),
        ("x" * 5000, "a line of .* is not one line"),
        ("x\n" * MAX_BYTES, f"more than {MAX_BYTES} bytes"),
    ],
)
def test_a_fault_is_named_without_the_secret(path: Path, text: str, fault: str) -> None:
    """At the start, by check-config and in the log of a running server."""
    assert MAX_SECRETS == 3
    name = store(path, text)
    with pytest.raises(ConfigError, match=f"^secret_file: .*{fault}") as refusal:
        read_secrets(name, "secret_file")
    assert "hunter2" not in str(refusal.value)
    assert list(problems(Settings(secret_file=name))) == [str(refusal.value)]


def test_bytes_that_are_no_text_are_a_fault(path: Path) -> None:
    """As in the configuration."""
    store(path, "")
    path.write_bytes(b"\xff\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_secrets(str(path), "secret_file")


def test_a_file_that_every_user_may_read_or_that_is_none_is_refused(path: Path, tmp_path: Path) -> None:
    """The server's group may read it."""
    assert read_secrets(store(path, "one", 0o640), "secret_file") == ("one",)
    for name, fault in (
        (store(path, "one", 0o644), "chmod 600"),
        (str(tmp_path), "no regular file"),
        (str(tmp_path / "none"), "No such file"),
    ):
        with pytest.raises(ConfigError, match=fault):
            read_secrets(name, "secret_file")


def test_an_application_has_a_file_of_its_own(path: Path, tmp_path: Path) -> None:
    """It never has that of the default one."""
    name, of_shop = store(path, "one\nolder"), store(tmp_path / "shop", "two")
    section = AppSection("shop", {"secret_file": of_shop})
    settings = Settings(secret_file=name, apps=(section,))
    assert secrets_of(settings.of_app(section)) == ("two",)
    assert secrets_in_files(settings) == ("one", "older", "two")
    assert list(problems(settings)) == []
    assert list(problems(Settings(secret_file=name, apps=(AppSection("shop"),)))) == [
        "secret: [app:shop] has none; an application needs its own"
    ]


@pytest.mark.parametrize("shared", ["new", "old"])
def test_no_two_applications_accept_one_secret(path: Path, shared: str) -> None:
    """An older one neither."""
    name = store(path, "new\nold")
    settings = Settings(secret_file=name, apps=(AppSection("shop", {"secret": shared}),))
    [problem] = problems(settings)
    assert "[app:shop] and [channelstream] have the same one" in problem


def test_a_file_has_the_secrets_of_pusher(path: Path) -> None:
    """In place of the option; a fault names the option of the file, and is reported once."""
    name = store(path, "new\nold")
    settings = Settings(pusher_secret="another", pusher_secret_file=name)
    assert pusher_secrets_of(settings) == secrets_in_files(settings) == ("new", "old")
    assert (pusher_secrets_of(Settings(pusher_secret="x")), pusher_secrets_of(Settings())) == (("x",), ())
    with pytest.raises(ConfigError, match=r"^pusher_secret_file: .* has 0 secrets") as refusal:
        pusher_secrets_of(Settings(pusher_secret_file=store(path, "")))
    assert list(problems(Settings(pusher_secret_file=name, pusher_key="k"))) == [str(refusal.value)]


def test_a_public_secret_is_refused_as_an_older_one_too(path: Path) -> None:
    """Beyond loopback: it would be accepted."""
    name = store(path, "random-1\nsecret")
    settings = Settings(host="0.0.0.0", secret_file=name, admin_secret="random-2")
    assert [problem.partition(":")[0] for problem in problems(settings)] == ["secret"]


@pytest.mark.parametrize(
    ("settings", "reads_again"),
    [
        (Settings(), False),
        (Settings(secret_file="s"), True),
        (Settings(keys_file="k"), True),
        (Settings(apps=(AppSection("shop", {"secret": "x"}),)), False),
        (Settings(apps=(AppSection("shop", {"secret_file": "s"}),)), True),
        (Settings(pusher_secret_file="s"), True),
        (Settings(apps=(AppSection("shop", {"pusher_secret_file": "s"}),)), True),
    ],
)
def test_a_signal_reads_files_again_where_there_are_any(settings: Settings, reads_again: bool) -> None:
    """Else it ends the server."""
    assert settings.reads_again is reads_again
