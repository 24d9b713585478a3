"""`check-config`."""

from pathlib import Path

import pytest

from channelstream.cli import main


def test_ok(capsys: pytest.CaptureFixture[str]) -> None:
    """Settings without a fault are OK."""
    assert main(["check-config"], {}) == 0
    assert capsys.readouterr() == ("OK\n", "")


def test_all_problems_and_warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All problems are reported at once, and warnings with them."""
    path = tmp_path / "file.ini"
    path.write_text("[channelstream]\nport = x\ndebug = maybe\nprot = 1\nallow_posting_from = x.x.x.x\n")
    assert main(["check-config", "-i", str(path)], {}) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(":")[0] for line in err.splitlines()] == ["warning", "warning", "problem", "problem"]


def test_safety_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """Settings that would not be served are problems: both secrets are named."""
    assert main(["check-config", "-o", "0.0.0.0"], {}) == 2
    assert capsys.readouterr().err.count("make-config") == 2


def test_file_that_is_not_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A channelstream.ini of the directory is pointed out while it is not read, and only then."""
    monkeypatch.chdir(tmp_path)
    Path("channelstream.ini").write_text("[channelstream]\nport = 9000\n")
    assert main(["check-config"], {}) == 0
    out, err = capsys.readouterr()
    assert (out, err.count("channelstream.ini is here and was not read")) == ("OK\n", 1)
    for argv, environ in (
        (["-i", "channelstream.ini"], {}),
        ([], {"CHANNELSTREAM_INI": "channelstream.ini"}),
    ):
        assert main(["check-config", *argv], environ) == 0
        assert capsys.readouterr() == ("OK\n", "")
