"""Progress on a terminal and on a pipe."""

import io

import pytest

from channelstream.bench.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_line_is_replaced() -> None:
    """On a terminal the line is replaced, and gone in the end."""
    out = Terminal()
    progress = Progress(out)
    progress.begin("fanout")
    progress.show("connecting", 500, 1000)
    assert out.getvalue() == "\rfanout: connecting 500 of 1,000\x1b[K"
    progress.clear()
    assert out.getvalue().endswith("\r\x1b[K")


def test_on_a_pipe_there_are_whole_lines() -> None:
    """On a pipe it is whole lines, and not one for every change."""
    out = io.StringIO()
    progress = Progress(out)
    progress.begin("fanout")
    for done in range(1, 1000):
        progress.show("connecting", done)
    progress.clear()
    assert out.getvalue() == "fanout: connecting 1\n"


def test_without_a_file_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a file nothing is written anywhere."""
    progress = Progress(None)
    progress.show("connecting")
    progress.clear()
    assert capsys.readouterr() == ("", "")
