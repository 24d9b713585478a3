"""The command line."""

import pytest

from channelstream.config.flags import Flags, complete_switches, read_flags, settings_parser
from channelstream.config.settings import OPTIONS
from channelstream.errors import ConfigError


def texts(*argv: str) -> dict[str, str]:
    return {name: given.text for name, given in read(*argv).given.items()}


def read(*argv: str) -> Flags:
    return read_flags(settings_parser(), argv)


def test_every_option_has_a_flag() -> None:
    """Each option can be given by its long flag."""
    for option in OPTIONS:
        assert texts(f"{option.flag}=x") == {option.name: "x"}


def test_flags_of_the_first_generation() -> None:
    """-s -a -o -p -d -e -x keep their meaning."""
    given = texts("-s", "S", "-a", "A", "-o", "H", "-p", "1", "-d", "1", "-e", "0", "-x", "1.1.1.1,2.2.2.2")
    assert given == {
        "secret": "S", "admin_secret": "A", "host": "H", "port": "1",
        "debug": "1", "demo": "0", "allow_posting_from": "1.1.1.1,2.2.2.2",
    }  # fmt: skip


def test_a_switch_without_a_value_is_true() -> None:
    """A switch alone means true and does not swallow what follows."""
    assert complete_switches(["-d", "file.ini"]) == ["-d", "true", "file.ini"]
    assert complete_switches(["--demo", "auto", "-d"]) == ["--demo", "auto", "-d", "true"]
    assert texts("--debug", "-p", "1") == {"debug": "true", "port": "1"}


@pytest.mark.parametrize(
    "argv",
    [
        ["-i", "f.ini"],
        ["--ini", "f.ini"],
        ["f.ini"],
        ["-", "f.ini"],
        ["-p", "1", "f.ini", "-d"],
        ["-d", "-", "f.ini"],
    ],
)
def test_the_file_is_named_in_any_of_the_ways(argv: list[str]) -> None:
    """The file is named by -i, alone, or after a bare dash, before and after other flags."""
    assert read(*argv).file == "f.ini"


def test_nothing_given_is_nothing_set() -> None:
    """Nothing given is nothing set."""
    assert read() == Flags(None, {})


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["a.ini", "b.ini"], "name one INI file"),
        (["-i", "a.ini", "b.ini"], "name one INI file"),
        (["--secrte=hunter2"], "there is no option '--secrte' (did you mean --secret?)"),
        (["--secrte", "hunter2"], "there is no option '--secrte'"),
        (["--port"], "expected one argument"),
        (["--por", "1"], "there is no option '--por'"),
    ],
)
def test_a_malformed_command_line_is_refused_in_one_line(argv: list[str], complaint: str) -> None:
    """A malformed command line is a ConfigError of one line that repeats no value."""
    with pytest.raises(ConfigError) as caught:
        read(*argv)
    assert complaint in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_help_shows_every_option_once() -> None:
    """The help text names each option, its default and its sentence's first word, grouped by section."""
    text = settings_parser().format_help()
    for option in OPTIONS:
        assert text.count(f"{option.flag} {option.declared.kind.metavar}") == 1
    assert text.index("Server:") < text.index("Access:") < text.index("Timings:") < text.index("Limits:")
    assert "-p, --port N" in text
