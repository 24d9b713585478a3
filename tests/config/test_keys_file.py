"""The file with the keys of applications."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from channelstream.apps.api_key import ApiKey
from channelstream.apps.app import App
from channelstream.apps.principal import Right
from channelstream.config import Settings
from channelstream.config.keys_file import MAX_BYTES, MAX_KEYS, StoredKey, read_keys, read_stored, written
from channelstream.config.safety import problems
from channelstream.errors import ConfigError

SECRET = "s" * 40
APPS = (App(), App("shop"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def store(path: Path, *keys: Any) -> str:
    """Write a file of keys as an operator may do, and return its path."""
    path.write_text(json.dumps({"keys": keys}))
    path.chmod(0o600)
    return str(path)


def test_a_key_has_the_values_of_the_file(path: Path) -> None:
    """Without rights, all; without times, always."""
    named = {"id": "web", "secret": SECRET, "app": "shop", "rights": ["publish", "info"]}
    times = {"not_before": "2026-01-01T00:00:00Z", "not_after": "2026-12-31T23:00:00+01:00"}
    few = frozenset({Right.PUBLISH, Right.INFO})
    first_s, last_s = (
        datetime(2026, month, day, hour, tzinfo=UTC).timestamp()
        for month, day, hour in ((1, 1, 0), (12, 31, 22))
    )
    keys = read_keys(store(path, {"id": "all", "secret": SECRET}, named | times), APPS)
    assert keys == [ApiKey("all", SECRET, App()), ApiKey("web", SECRET, App("shop"), few, first_s, last_s)]


def test_a_key_may_have_rates_of_its_own(path: Path) -> None:
    """0 means no bound, and none of its own that of its application."""
    rates = {"max_call_rate": 0, "max_message_rate": 2.5}
    keys = read_keys(
        store(path, {"id": "web", "secret": SECRET} | rates, {"id": "all", "secret": SECRET}), APPS
    )
    assert [(key.calls_per_s, key.messages_per_s) for key in keys] == [(0, 2.5), (None, None)]


def test_a_revoked_key_is_none(path: Path) -> None:
    """It stays in the file, so that its id is not given again."""
    gone = {"id": "gone", "revoked": "2026-01-01T00:00:00Z"}
    assert read_keys(store(path, gone), APPS) == []
    assert [each.id for each in read_stored(str(path))] == ["gone"]


def test_what_is_written_is_read(path: Path) -> None:
    """All of it."""
    now = datetime(2026, 11, 29, 12, tzinfo=UTC)
    keys = [
        StoredKey(id="web", secret=SECRET, app="shop", rights=[Right.INFO], created=now, not_after=now),
        StoredKey(id="gone", revoked=now),
    ]
    path.write_bytes(written(keys))
    path.chmod(0o600)
    assert read_stored(str(path)) == keys


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        (["web"], "Expected `object`"),
        ([{"secret": SECRET}], "missing required field `id`"),
        ([{"id": "web", "secret": 5}], "Expected `str`"),
        ([{"id": "web", "secret": SECRET, "right": []}], "unknown field `right`"),
        ([{"id": "web", "secret": SECRET, "rights": ["root"]}], "Invalid enum value"),
        ([{"id": "web", "secret": SECRET, "not_after": "2026-01-01T00:00:00"}], "timezone"),
        (
            [
                {
                    "id": "web",
                    "secret": SECRET,
                    "not_before": "2026-12-02T00:00:00Z",
                    "not_after": "2026-12-01T00:00:00Z",
                }
            ],
            "'web': not_before is later than not_after",
        ),
        ([{"id": "web", "secret": SECRET}] * 2, "2 keys with the id 'web'"),
        ([{"id": "", "secret": SECRET}], "a key without an id"),
        ([{"id": "w.eb", "secret": SECRET}], "the id of a key has"),
        ([{"id": "web", "secret": SECRET, "app": "blog"}], "'blog', which is not configured"),
        ([{"id": "web", "secret": SECRET, "max_call_rate": -1}], "Expected `float` >= 0"),
        ([{"id": "web", "secret": SECRET, "max_message_rate": 2000000}], "Expected `float` <= 1000000"),
        ([{"id": str(number)} for number in range(MAX_KEYS + 1)], "length <= 1000"),
    ],
)
def test_a_fault_is_named_without_the_secret(path: Path, keys: list[Any], fault: str) -> None:
    """At the start, and by check-config."""
    name = store(path, *keys)
    with pytest.raises(ConfigError, match=fault) as refusal:
        read_keys(name, APPS)
    assert SECRET not in str(refusal.value)
    assert list(problems(Settings(keys_file=name))) != []


def test_a_file_that_is_no_json_missing_or_too_long_is_refused(path: Path) -> None:
    """With its path."""
    with pytest.raises(ConfigError, match=r"keys\.json' cannot be read: No such file"):
        read_keys(str(path), APPS)
    path.touch(mode=0o600)
    with pytest.raises(ConfigError, match="is not a file of keys"):
        read_keys(str(path), APPS)
    path.write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match=f"more than {MAX_BYTES} bytes"):
        read_keys(str(path), APPS)


@pytest.mark.parametrize(("mode", "is_read"), [(0o600, True), (0o640, True), (0o644, False), (0o602, False)])
def test_a_file_that_every_user_may_read_is_refused(path: Path, mode: int, is_read: bool) -> None:
    """The server's group may."""
    name = store(path, {"id": "web", "secret": SECRET})
    path.chmod(mode)
    if is_read:
        assert [key.id for key in read_keys(name, APPS)] == ["web"]
    else:
        with pytest.raises(ConfigError, match="chmod 600"):
            read_keys(name, APPS)
