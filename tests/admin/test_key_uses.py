"""When keys were used last, as the admin's pages and the command line show it."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.http_client import http
from tests.signing import signature
from tests.waiting import eventually

from channelstream.admin.key_uses import STEP_S, KeyUses
from channelstream.engines.time_series import LocalTimeSeries

SECRET = "x" * 40


@pytest.fixture
def keys_file(tmp_path: Path) -> str:
    path = tmp_path / "keys.json"
    web = {"id": "web", "secret": SECRET, "rights": ["info"], "not_after": "2100-01-01T00:00:00Z"}
    path.write_text(
        json.dumps({"keys": [web, {"id": "idle", "secret": SECRET}, {"id": "weak", "secret": "x"}]})
    )
    path.chmod(0o600)
    return str(path)


def rows(server: Any, prefix: str = "", secret: str = "") -> dict[str, Any]:
    headers = signature(secret or server.secret, "GET", "/admin/data/keys")
    answer = http.get(f"{server.url}{prefix}/admin/data/keys", headers=headers)
    assert answer.status_code == 200, answer.text
    return {row["id"]: row for row in answer.json()["rows"]}


def use(server: Any, key_id: str) -> None:
    headers = signature(SECRET, "POST", "/info", b"{}", key_id)
    assert http.post(server.url + "/info", content=b"{}", headers=headers).status_code == 200


def test_keys_are_shown_with_their_last_use_and_no_secret(
    start_server: Callable[..., Any], keys_file: str
) -> None:
    """Calls count; what strangers send, a refused call and a look at this page do not."""
    server = start_server("--keys-file", keys_file, CHANNELSTREAM_APP_SHOP_SECRET="of the shop, long enough")
    assert {key_id: row["last_used"] for key_id, row in rows(server).items()} == dict.fromkeys(
        ["", "idle", "weak", "web"]
    )
    http.post(server.url + "/disconnect", json={"conn_id": "x"})
    http.post(server.url + "/info", headers=signature("wrong" * 10, "POST", "/info", b"", "idle"))
    use(server, "web")
    shown = rows(server)
    assert {key_id for key_id, row in shown.items() if row["last_used"]} == {"web"}
    assert (shown["web"]["state"], shown["weak"]["state"], shown["web"]["rights"]) == (
        "valid",
        "weak",
        ["info"],
    )
    assert shown["web"]["not_after"].startswith("2100-01-01")
    assert SECRET not in json.dumps(shown)
    assert list(rows(server, "/app/shop", "of the shop, long enough")) == [""]


def test_a_call_without_the_right_is_no_use(start_server: Callable[..., Any], keys_file: str) -> None:
    """Whether the head of the call proves its key, or only the body does."""
    server = start_server("--keys-file", keys_file)
    calls = (signature(SECRET, "POST", "/message", b"[]", "web"), {"authorization": f"Bearer web.{SECRET}"})
    for headers in calls:
        assert http.post(server.url + "/message", content=b"[]", headers=headers).status_code == 403
    assert rows(server)["web"]["last_used"] is None


def test_a_use_outlives_a_restart(start_server: Callable[..., Any], keys_file: str, tmp_path: Path) -> None:
    """Where the engine does."""
    flags = ("--keys-file", keys_file, "--engine", f"sqlite:///{tmp_path / 'log'}")
    server = start_server(*flags)
    use(server, "web")
    server.stop()
    assert rows(start_server(*flags))["web"]["last_used"] is not None


def test_a_key_that_is_read_again_keeps_its_use(start_server: Callable[..., Any], keys_file: str) -> None:
    """SIGHUP replaces keys, not what is known about them."""
    server = start_server("--keys-file", keys_file)
    use(server, "web")
    path = Path(keys_file)
    path.write_text(path.read_text().replace('"weak"', '"other"'))
    os.kill(server.process.pid, signal.SIGHUP)
    eventually(lambda: "other" in rows(server), "the file is not read")
    assert rows(server)["web"]["last_used"] is not None


def test_a_use_is_written_a_few_times_a_day() -> None:
    """However often a key is used."""
    now_s, written = 1_800_000_000.0, list[tuple[str, Any]]()
    history = SimpleNamespace(write=lambda series, record, keep_s: written.append((series, record)))
    clock = SimpleNamespace(now_s=now_s)
    uses = KeyUses(history, LocalTimeSeries(), lambda: clock.now_s)  # type: ignore[arg-type]
    for passed_s, count in ((0, 1), (1, 1), (STEP_S - 1, 1), (STEP_S, 2), (STEP_S + 5, 2)):
        clock.now_s = now_s + passed_s
        uses.used("default", "web")
        assert len(written) == count
    uses.used("default", "cron")
    uses.used("shop", "web")
    assert [record.data for _, record in written] == [b"web", b"web", b"cron", b"web"]
    assert len({series for series, _ in written}) == 2
