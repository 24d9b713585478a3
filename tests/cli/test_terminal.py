"""What commands print besides their answers."""

import pytest

from channelstream.cli.terminal import printable, say


def test_lines_about_the_work_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """So that stdout has nothing but what was asked for."""
    say("the connection was ended")
    assert tuple(capsys.readouterr()) == ("", "channelstream: the connection was ended\n")


def test_a_terminal_executes_nothing_of_others() -> None:
    """Control characters and separators are escaped, letters of all languages are not."""
    assert printable("Zoë\x1b[2J\n\u2028\udcff") == r"Zoë\x1b[2J\n\u2028\udcff"
