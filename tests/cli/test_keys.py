"""`channelstream keys`."""

import json
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.http_client import http
from tests.signing import signature

from channelstream.apps.app import App
from channelstream.apps.principal import Right
from channelstream.cli import keys_store, main
from channelstream.cli.keys_store import changed
from channelstream.config.keys_file import read_keys, read_stored

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "keys.json")


def keys(path: str, *arguments: str, **environ: str) -> int:
    """Run the command; by its settings no server is in reach."""
    return main(["keys", *arguments, "--keys-file", path], {"CHANNELSTREAM_PORT": "1"} | environ)


def test_a_new_key_is_written_and_its_secret_printed(path: str, capsys: Capture) -> None:
    """Into a file that only its owner may read; a second one is added."""
    assert keys(path, "new", "web-1", "--rights", "publish,connect", "--not-after", "2100-01-31") == 0
    printed = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert keys(path, "new", "cron") == 0
    web, cron = read_keys(path, [App()])
    assert (web.id, web.secret) == (printed["id"], printed["secret"]) == ("web-1", web.secret)
    assert web.rights == {Right.PUBLISH, Right.CONNECT}
    assert (web.not_before_s, web.not_after_s) == (None, 4_105_036_800)
    assert cron.rights == frozenset(Right)
    assert cron.secret != web.secret
    assert web.secret.isalnum()  # No hyphen at its beginning, as a flag has.
    assert not cron.is_weak
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    assert [each.name for each in Path(path).parent.iterdir()] == ["keys.json"]


def test_a_new_key_has_rates_of_its_own(path: str) -> None:
    """0 is no bound; without flags it has the rates of its application, also if `max_message_rate` is set."""
    assert keys(path, "new", "web", "--max-call-rate", "50", "--max-message-rate", "0") == 0
    assert keys(path, "new", "slow", "--max-message-rate", "0.5") == 0
    assert keys(path, "new", "cron", CHANNELSTREAM_MAX_MESSAGE_RATE="7") == 0
    found = {key.id: (key.calls_per_s, key.messages_per_s) for key in read_keys(path, [App()])}
    assert found == {"web": (50, 0), "slow": (None, 0.5), "cron": (None, None)}


def test_a_revoked_key_leaves_its_id(path: str, capsys: Capture) -> None:
    """Without the secret; it is not given again, and cannot be revoked twice."""
    keys(path, "new", "web")
    assert keys(path, "revoke", "web") == 0
    [stored] = read_stored(path)
    assert (stored.id, stored.secret, read_keys(path, [App()])) == ("web", "", [])
    assert keys(path, "new", "web") == 2
    assert keys(path, "revoke", "web") == 2
    assert "no key 'web' that could be revoked" in capsys.readouterr().err


def test_the_list_has_no_secret(path: str, capsys: Capture) -> None:
    """It says which key is accepted, and why not."""
    keys(path, "new", "web", "--rights", "publish")
    keys(path, "new", "late", "--not-before", "2100-01-01T12:00:00Z")
    keys(path, "new", "gone", "--not-after", "2000-01-01")
    keys(path, "new", "off")
    keys(path, "revoke", "off")
    capsys.readouterr()
    assert keys(path, "list") == 0
    shown, said = capsys.readouterr()
    assert "when keys were used last is not known" in said
    assert not any(key.secret in shown for key in read_keys(path, [App()]))
    rows = {line.split()[0]: line for line in shown.splitlines()}
    expected = {"web": "valid", "late": "not yet valid", "gone": "expired", "off": "revoked"}
    assert {key_id: text for key_id, text in expected.items() if text not in rows[key_id]} == {}
    assert "2100-01-01 12:00:00Z" in rows["late"]
    assert "publish" in rows["web"]


def test_the_list_has_the_rates_of_keys(path: str, capsys: Capture) -> None:
    """Those of the options where a key has none of its own; nothing where there is no bound."""
    keys(path, "new", "web", "--max-call-rate", "2.5", "--max-message-rate", "100000")
    keys(path, "new", "free", "--max-call-rate", "0")
    keys(path, "new", "wares", "--app", "shop", CHANNELSTREAM_APP_SHOP_SECRET="of the shop")
    capsys.readouterr()
    options = {
        "CHANNELSTREAM_MAX_KEY_CALL_RATE": "7",
        "CHANNELSTREAM_APP_SHOP_SECRET": "of the shop",
        "CHANNELSTREAM_APP_SHOP_MAX_KEY_CALL_RATE": "8",
    }
    assert keys(path, "list", **options) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    begin, end = head.index("calls/s"), head.index("not before")
    assert {row.split()[0]: row[begin:end].split() for row in rows} == {
        "web": ["2.5", "100000"],
        "free": [],
        "wares": ["8"],
    }


def test_the_list_says_when_keys_were_used_last(
    path: str, capsys: Capture, start_server: Callable[..., Any]
) -> None:
    """Of each application, as the running server knows it."""
    shop = {"CHANNELSTREAM_APP_SHOP_SECRET": "of the shop, long enough"}
    keys(path, "new", "web")
    keys(path, "new", "wares", "--app", "shop", **shop)
    keys(path, "new", "idle")
    server = start_server("--keys-file", path, **shop)
    for key in read_keys(path, [App(), App("shop")])[:2]:
        headers = signature(key.secret, "POST", "/info", b"{}", key.id)
        assert http.post(server.url + "/info", content=b"{}", headers=headers).status_code == 200
    capsys.readouterr()
    of_server = {"CHANNELSTREAM_PORT": str(server.port), "CHANNELSTREAM_SECRET": server.secret}
    assert keys(path, "list", **of_server, **shop) == 0
    shown, said = capsys.readouterr()
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    assert said == ""
    assert [today in line for line in shown.splitlines()] == [False, True, True, False]


def test_a_key_is_of_an_application_of_the_settings(path: str, tmp_path: Path, capsys: Capture) -> None:
    """The settings name the file, too."""
    ini = tmp_path / "my.ini"
    ini.write_text(f"[channelstream]\nkeys_file = {path}\n[app:shop]\nsecret = of the shop\n")
    assert main(["keys", "new", "web", "--app", "shop", "-i", str(ini)], {}) == 0
    [key] = read_keys(path, [App(), App("shop")])
    assert key.app == App("shop")
    assert main(["keys", "new", "other", "--app", "blog", "-i", str(ini)], {}) == 2
    assert "no application 'blog'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["new"], "take the id of one key"),
        (["list", "web"], "list takes none"),
        (["new", "w.eb"], "the id of a key has"),
        (["new", "web", "--rights", "root"], "--rights: 'root' is not a list of connect, publish"),
        (["new", "web", "--not-after", "soon"], "--not-after: 'soon' is not a time"),
        (["new", "web", "--max-call-rate", "nan"], "--max-call-rate: 'nan' is not a number from 0"),
        (["new", "web", "--max-message-rate", "many"], "--max-message-rate: 'many' is not a number"),
        (["new", "web", "--max-message-rate", "1e9"], "is not a number from 0 to 1000000"),
        (["new", "web", "--max-call-rate=-1"], "'-1' is not a number"),
        (["make", "web"], "invalid choice"),
        (["list"], "cannot be read: No such file"),
    ],
)
def test_wrong_arguments_write_nothing(path: str, capsys: Capture, arguments: list[str], fault: str) -> None:
    """And are named."""
    assert keys(path, *arguments) == 2
    assert fault in capsys.readouterr().err
    assert not Path(path).exists()
    assert list(Path(path).parent.iterdir()) == []


def test_the_file_has_to_be_named(capsys: Capture) -> None:
    """There is no usual one."""
    assert main(["keys", "list"], {}) == 2
    assert "--keys-file FILE" in capsys.readouterr().err


def test_a_file_that_another_command_writes_is_left_alone(path: str, capsys: Capture) -> None:
    """Neither loses the change of the other."""
    keys(path, "new", "web")
    with changed(path) as stored:
        assert keys(path, "revoke", "web") == 2
        assert "another command writes" in capsys.readouterr().err
        stored.clear()
    assert read_stored(path) == []
    assert keys(path, "new", "web") == 0


def test_an_error_in_between_leaves_the_file_as_it_was(path: str) -> None:
    """And does not keep others away."""
    keys(path, "new", "web")
    before = Path(path).read_bytes()
    with pytest.raises(RuntimeError), changed(path) as stored:
        stored.clear()
        raise RuntimeError
    assert Path(path).read_bytes() == before
    assert keys(path, "new", "cron") == 0


def test_a_command_that_begins_at_the_end_of_another_one_is_left_alone(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a third one could begin, whose unfinished file would take the place of the keys."""
    second = Path(f"{path}.new")
    monkeypatch.setattr(keys_store, "_sync_directory", lambda _: second.touch(exist_ok=False))
    assert keys(path, "new", "web") == 0
    assert second.exists()


def test_the_file_keeps_its_mode_and_a_link_leads_to_it(path: str, tmp_path: Path) -> None:
    """A server of another user still reads it."""
    keys(path, "new", "web")
    Path(path).chmod(0o640)
    link = tmp_path / "link.json"
    link.symlink_to(path)
    assert keys(str(link), "new", "cron") == 0
    assert link.is_symlink()
    assert [key.id for key in read_keys(path, [App()])] == ["web", "cron"]
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o640


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path, capsys: Capture) -> None:
    assert keys(str(tmp_path / "none" / "keys.json"), "new", "web") == 2
    assert "cannot be written: No such file" in capsys.readouterr().err


@pytest.mark.parametrize("action", ["new", "revoke"])
@pytest.mark.parametrize("name", ["/", "/dev/null", "folder", "pipe"])
def test_what_is_no_regular_file_is_left_alone(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, name: str, action: str
) -> None:
    """Nothing is written beside it."""
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    os.mkfifo("pipe")
    assert keys(name, action, "web") == 2
    assert capsys.readouterr().err.endswith("cannot be read: it is no regular file\n")
    assert {each.name for each in tmp_path.iterdir()} == {"folder", "pipe"}


def test_a_key_that_was_written_wrong_by_hand_is_listed(path: str, capsys: Capture) -> None:
    """Its state says so; a server does not start with it."""
    Path(path).write_text(json.dumps({"keys": [{"id": "w.eb", "secret": "x"}, {"id": "old", "secret": "x"}]}))
    Path(path).chmod(0o600)
    assert keys(path, "list") == 0
    _, malformed, weak = capsys.readouterr().out.splitlines()
    assert ("malformed" in malformed, "weak" in weak) == (True, True)


def test_a_file_of_another_form_is_not_replaced(path: str, capsys: Capture) -> None:
    """Somebody may have written it by hand."""
    other: Any = {"keys": [], "more": 1}
    Path(path).write_text(json.dumps(other))
    Path(path).chmod(0o600)
    assert keys(path, "new", "web") == 2
    assert json.loads(Path(path).read_text()) == other
