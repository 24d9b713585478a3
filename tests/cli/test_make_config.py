"""`make-config`, and its old name."""

import os
import resource
from pathlib import Path

import pytest
from tests.config.reading import load_settings

from channelstream.cli import main, utils_main
from channelstream.config import Settings


def loaded(path: Path) -> Settings:
    return load_settings([str(path)], {}).settings


def test_writes_random_secrets_for_the_owner_only(tmp_path: Path) -> None:
    """The file holds random secrets, defaults otherwise, and only its owner may read it."""
    path = tmp_path / "made.ini"
    assert main(["make-config", "-o", str(path)], {}) == 0
    settings = loaded(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len({settings.secret, settings.admin_secret, settings.cookie_secret, "secret", ""}) == 5
    assert settings.port == Settings().port


def test_refuses_to_overwrite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is there is kept, unless --force is given."""
    path = tmp_path / "made.ini"
    path.write_text("mine")
    assert main(["make-config", "-o", str(path)], {}) == 2
    assert "--force" in capsys.readouterr().err
    assert path.read_text() == "mine"
    assert main(["make-config", "-o", str(path), "--force"], {}) == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert loaded(path).secret != "secret"


def test_the_environment_sets_options_and_json_beats_it(tmp_path: Path) -> None:
    """The environment sets options in the file, and JSON beats it."""
    path = tmp_path / "made.ini"
    environ = {"CHANNELSTREAM_PORT": "1", "CHANNELSTREAM_HOST": "::1"}
    assert main(["make-config", "-o", str(path), "-j", '{"port": 2, "secret": "mine"}'], environ) == 0
    settings = loaded(path)
    assert (settings.port, settings.host, settings.secret) == (2, "::1", "mine")


def test_an_application_of_the_environment_gets_a_section(tmp_path: Path) -> None:
    """With a secret of its own."""
    path = tmp_path / "made.ini"
    assert main(["make-config", "-o", str(path)], {"CHANNELSTREAM_APP_SHOP_DEMO": "no"}) == 0
    [shop] = loaded(path).apps
    assert (shop.id, shop.values["demo"], len(shop.values["secret"])) == ("shop", False, 64)


def test_a_hyphen_prints_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    """-o - prints the file."""
    assert main(["make-config", "-o", "-"], {}) == 0
    assert "\n[channelstream]\n" in capsys.readouterr().out


@pytest.mark.parametrize("document", ['{"port": "x"}', '{"secret": "a\\nport = 1"}', "[]"])
def test_wrong_override_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], document: str
) -> None:
    """A wrong value, or one that would smuggle in another line, is refused before anything is written."""
    path = tmp_path / "made.ini"
    assert main(["make-config", "-o", str(path), "-j", document], {}) == 2
    assert not path.exists()
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """A path that cannot be written ends with exit code 2."""
    assert main(["make-config", "-o", str(tmp_path / "none" / "made.ini")], {}) == 2


@pytest.mark.parametrize("flags", [[], ["--force"]])
def test_what_is_no_regular_file_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    """A file in its place would break /dev/stdout, for all programs of the machine if root writes it."""
    pipe, link, folder = (tmp_path / name for name in ("pipe", "link", "folder"))
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    folder.mkdir()
    before = [each.lstat() for each in (pipe, link, folder)]
    for path in (pipe, link, folder):
        assert main(["make-config", "-o", str(path), *flags], {}) == 2
        assert (
            capsys.readouterr().err == f"channelstream: '{path}' is no regular file; -o - writes to stdout\n"
        )
    assert [each.lstat() for each in (pipe, link, folder)] == before


def test_a_replaced_file_is_what_a_link_names(tmp_path: Path) -> None:
    """The link stays."""
    path, link = tmp_path / "made.ini", tmp_path / "link.ini"
    path.touch()
    link.symlink_to(path.name)
    assert main(["make-config", "-o", str(link), "--force"], {}) == 0
    assert link.is_symlink()
    assert "[channelstream]" in path.read_text()


@pytest.mark.parametrize("older", [None, "[channelstream]\nport = 1\n"])
def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], older: str | None
) -> None:
    """No part of a file, and the one that --force was to replace."""
    path = tmp_path / "made.ini"
    if older is not None:
        path.write_text(older)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        assert main(["make-config", "-o", str(path), *(["--force"] if older else [])], {}) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "cannot be written: File too large" in capsys.readouterr().err
    assert [each.read_text() for each in tmp_path.iterdir()] == ([older] if older else [])


def test_a_replaced_file_leaves_its_neighbours(tmp_path: Path) -> None:
    """As one that an operator has made to compare, whatever its name is."""
    path, other = tmp_path / "made.ini", tmp_path / "made.ini.new"
    path.touch(0o644)
    other.write_text("of an operator")
    assert main(["make-config", "-o", str(path), "--force"], {}) == 0
    assert (other.read_text(), path.stat().st_mode & 0o777) == ("of an operator", 0o600)
    assert sorted(tmp_path.iterdir()) == [path, other]


def test_the_old_name_of_the_command_does_the_same(tmp_path: Path) -> None:
    """channelstream_utils make_config -o -j does the same and replaces the file, as it always did."""
    path = tmp_path / "made.ini"
    for port in (1, 2):
        assert utils_main(["make_config", "-o", str(path), "-j", f'{{"port": {port}}}'], {}) == 0
    assert loaded(path).port == 2


def test_old_name_knows_nothing_else() -> None:
    """Another operation ends with exit code 2."""
    assert utils_main(["drop_tables"], {}) == 2
