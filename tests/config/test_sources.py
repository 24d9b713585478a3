"""The INI file and the environment."""

import os
from pathlib import Path
from threading import Thread

import pytest

from channelstream.config.sources import MAX_BYTES, Given, from_environ, from_file
from channelstream.errors import ConfigError


def write(path: Path, text: str) -> str:
    file = path / "file.ini"
    file.write_text(text, "utf-8")
    return str(file)


def test_only_its_section_is_read(tmp_path: Path) -> None:
    """Keys of the section [channelstream] are read in any case; other sections are ignored."""
    path = write(tmp_path, "[other]\nport = 1\n[channelstream]\nPort = 2\n")
    layer = from_file(path)
    assert layer.given == {"port": Given("2", repr(path))}
    assert layer.warnings == ()


def test_percent_is_literal(tmp_path: Path) -> None:
    """A percent sign in a value is an ordinary character."""
    path = write(tmp_path, "[channelstream]\nsecret = 50%(x)s%\n")
    assert from_file(path).given["secret"].text == "50%(x)s%"


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    """A file that begins with a byte order mark is read."""
    assert from_file(write(tmp_path, "\ufeff[channelstream]\nport=1")).given["port"].text == "1"


def test_unknown_key_is_named(tmp_path: Path) -> None:
    """A key that is no option gives a warning with its name and the likely meaning."""
    path = write(tmp_path, "[channelstream]\nprot = 2\n")
    assert from_file(path).warnings == (f"{path!r}: there is no option 'prot' (did you mean port?); ignored",)


def test_a_file_may_have_1_mib(tmp_path: Path) -> None:
    """A longer one is refused in one line that names it, and so is a device without an end."""
    begin = "[channelstream]\nport = 1\n;"
    longest = write(tmp_path, begin + "x" * (MAX_BYTES - len(begin)))
    assert from_file(longest).given["port"].text == "1"
    too_long = write(tmp_path, begin + "x" * (MAX_BYTES - len(begin) + 1))
    for path in (too_long, "/dev/zero"):
        with pytest.raises(
            ConfigError, match=f"^'{path}' is no file of options: it has more than 1048576 bytes$"
        ):
            from_file(path)


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    """As a shell gives one to a command for `<(other command)`: in several parts."""
    reader, writer = os.pipe()
    parts = ["[channelstream]\n", f";{'x' * 100_000}\n", "port = 1\n"]

    def write_all() -> None:
        with os.fdopen(writer, "w") as pipe:
            for part in parts:
                pipe.write(part)
                pipe.flush()

    writing = Thread(target=write_all)
    writing.start()
    try:
        assert from_file(f"/dev/fd/{reader}").given["port"].text == "1"
    finally:
        os.close(reader)
        writing.join()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"[other]\n", "no [channelstream] section"),
        (
            b"secret = hunter2\n",
            "line 1 stands before the first section; [channelstream] has to come before it",
        ),
        (b"[channelstream]\nhunter2\n", "line 2 is neither a section nor an option with its value"),
        (b"[channelstream]\nport=1\nport=2\n", "line 3 sets an option for the second time"),
        (b"[app:a]\n[app:a]\n", "line 2 begins a section for the second time"),
        (b"[channelstream]\nsecret=\xff\n", "not UTF-8"),
    ],
)
def test_a_file_that_is_not_understood_is_refused_in_one_line(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    """A file that cannot be understood is a ConfigError of one line that repeats none of its text."""
    path = tmp_path / "file.ini"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        from_file(str(path))
    assert complaint in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_directory_are_refused(tmp_path: Path) -> None:
    """A file that is not there, or is a directory, is a ConfigError."""
    for path in (tmp_path / "none.ini", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            from_file(str(path))


def test_variables_with_the_prefix_give_options() -> None:
    """CHANNELSTREAM_<NAME> gives an option; CHANNELSTREAM_INI is not one; unknown names are warned about."""
    layer = from_environ(
        {"CHANNELSTREAM_PORT": "2", "CHANNELSTREAM_INI": "x", "CHANNELSTREAM_PROT": "3", "PORT": "4"}
    )
    assert layer.given == {"port": Given("2", "CHANNELSTREAM_PORT")}
    assert [warning.split(":")[0] for warning in layer.warnings] == ["CHANNELSTREAM_PROT"]


def test_alias_in_file_and_environment(tmp_path: Path) -> None:
    """The old name of an option is taken for the new one."""
    path = write(tmp_path, "[channelstream]\ngc_channels_after = 7\n")
    assert from_file(path).given["gc_channels_after_s"].text == "7"
    assert from_environ({"CHANNELSTREAM_GC_CHANNELS_AFTER": "8"}).given["gc_channels_after_s"].text == "8"
