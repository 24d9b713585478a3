"""`check-config`."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.http_client import http
from tests.signing import signature

from channelstream.cli import main


def test_settings_without_a_fault_are_ok(capsys: pytest.CaptureFixture[str]) -> None:
    """Settings without a fault are OK."""
    assert main(["check-config"], {}) == 0
    assert capsys.readouterr() == ("OK\n", "")


def test_all_problems_and_warnings_are_reported_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All problems are reported at once, and warnings with them."""
    path = tmp_path / "file.ini"
    path.write_text("[channelstream]\nport = x\ndebug = maybe\nprot = 1\nallow_posting_from = x.x.x.x\n")
    assert main(["check-config", "-i", str(path)], {}) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(":")[0] for line in err.splitlines()] == ["warning", "warning", "problem", "problem"]


def test_settings_that_would_not_be_served_are_problems(capsys: pytest.CaptureFixture[str]) -> None:
    """Settings that would not be served are problems: both secrets are named."""
    assert main(["check-config", "-o", "0.0.0.0"], {}) == 2
    assert capsys.readouterr().err.count("make-config") == 2


@pytest.mark.parametrize(
    ("flags", "kind", "said"),
    [
        (["-s", "short"], "fault", "secret has fewer than 16 characters; set it to what"),
        (["-s", "s" * 20, "-a", "s" * 20], "fault", "secret and admin_secret are equal"),
        (["--trusted-proxies", "0.0.0.0/0"], "fault", "trusted_proxies has every address"),
        (["--enforce-https", "true"], "fault", "enforce_https without ssl_certfile and trusted_proxies"),
        (["--signature-checker", "no.such.Checker"], "problem", "signature_checker: cannot use"),
        (
            ["--token-max-age-s", "60", "--token-issuers", "idp ES256 /no/such.pem"],
            "problem",
            "token_issuers: '/no/such.pem' cannot be used: No such file",
        ),
    ],
)
def test_what_doctor_or_the_start_would_say_is_said(
    flags: list[str], kind: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fault of the options is what doctor reports of them; a problem prevents the start."""
    assert main(["check-config", *flags], {}) == (1 if kind == "fault" else 2)
    out, err = capsys.readouterr()
    assert out == ""
    [line] = [line for line in err.splitlines() if said in line]
    assert line.startswith(f"{kind}: ")
    main(["doctor", "--config-only", *flags], {})
    assert said.partition(";")[0] in capsys.readouterr().out


def test_a_file_that_everybody_may_read_is_a_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has the secrets."""
    path = tmp_path / "file.ini"
    path.write_text("[channelstream]\n")
    path.chmod(0o644)
    assert main(["check-config", "-i", str(path)], {}) == 1
    assert f"fault: every user of the machine may read or change {path}" in capsys.readouterr().err


def test_an_unread_file_is_pointed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A channelstream.ini of the directory is pointed out while it is not read, and only then."""
    monkeypatch.chdir(tmp_path)
    Path("channelstream.ini").write_text("[channelstream]\nport = 9000\n")
    Path("channelstream.ini").chmod(0o600)
    assert main(["check-config"], {}) == 0
    out, err = capsys.readouterr()
    assert (out, err.count("channelstream.ini is here and was not read")) == ("OK\n", 1)
    for argv, environ in (
        (["-i", "channelstream.ini"], {}),
        ([], {"CHANNELSTREAM_INI": "channelstream.ini"}),
    ):
        assert main(["check-config", *argv], environ) == 0
        assert capsys.readouterr() == ("OK\n", "")


def stored(path: Path, *keys: dict[str, Any]) -> str:
    path.write_text(json.dumps({"keys": keys}))
    path.chmod(0o600)
    return str(path)


def test_keys_that_are_weak_or_expired_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are no fault: the server refuses them. Without a server nobody knows which are unused."""
    long = "x" * 40
    keys = stored(
        tmp_path / "keys.json",
        {"id": "good", "secret": long},
        {"id": "short", "secret": "x"},
        {"id": "over", "secret": long, "not_after": "2020-01-01T00:00:00Z"},
        {"id": "later", "secret": long, "not_before": "2100-01-01T00:00:00Z"},
        {"id": "gone", "revoked": "2020-01-01T00:00:00Z"},
    )
    assert main(["check-config", "--keys-file", keys, "-p", "1"], {}) == 0
    out, err = capsys.readouterr()
    weak, expired, unknown = err.splitlines()
    assert out == "OK\n"
    assert ("'short' is weak" in weak, "'over' is expired" in expired) == (True, True)
    assert "which keys are unused is not known" in unknown
    assert unknown.endswith(": start the server")  # This command and `keys` have no flag for an address.
    assert long not in err


def test_keys_that_nobody_uses_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], start_server: Callable[..., Any]
) -> None:
    """By the running server; one that was made lately may still come into use."""
    long, lately = "x" * 40, datetime.now(UTC) - timedelta(days=2)
    keys = stored(
        tmp_path / "keys.json",
        {"id": "used", "secret": long},
        {"id": "idle", "secret": long, "created": "2020-01-01T00:00:00Z"},
        {"id": "new", "secret": long, "created": lately.isoformat()},
        {"id": "by-hand", "secret": long},
    )
    server = start_server("--keys-file", keys)
    headers = signature(long, "POST", "/info", b"{}", "used")
    assert http.post(server.url + "/info", content=b"{}", headers=headers).status_code == 200
    flags = ["--keys-file", keys, "-p", str(server.port), "-s", server.secret]
    assert main(["check-config", *flags], {}) == 0
    said = capsys.readouterr().err.splitlines()
    assert [line.split("'")[1] for line in said if "was not used in the last 30 days" in line] == [
        "idle",
        "by-hand",
    ]
    assert len(said) == 2


def test_a_secret_that_the_server_does_not_know_yet_hides_no_uses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], start_server: Callable[..., Any]
) -> None:
    """The file is checked before SIGHUP: the server still knows its older secret only."""
    keys = stored(tmp_path / "keys.json", {"id": "idle", "secret": "x" * 40})
    secrets = tmp_path / "secrets"
    secrets.touch(0o600)
    secrets.write_text("an-older-secret-of-1")
    server = start_server("--keys-file", keys, "--secret-file", str(secrets))
    secrets.write_text("the-newest-secret-of-2\nan-older-secret-of-1\n")
    flags = ["--keys-file", keys, "-p", str(server.port), "--secret-file", str(secrets)]
    assert main(["check-config", *flags], {}) == 0
    assert "'idle' was not used" in capsys.readouterr().err
    secrets.write_text("the-newest-secret-of-2\n")
    assert main(["check-config", *flags], {}) == 0
    assert "which keys are unused is not known" in capsys.readouterr().err
