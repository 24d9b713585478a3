"""Programs that answer one question: their options, and how they end."""

import argparse
import sys

import pytest

from channelstream.bench.load import BenchFailed
from channelstream.bench.question import answer, options_of, positive


def test_the_server_gets_every_flag_and_a_failed_run_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends with exit code 1 and one line."""
    monkeypatch.setattr(sys, "argv", ["x", "--flag=--engine=memory", "--flag=--compression"])

    async def fail(arguments: argparse.Namespace) -> None:
        raise BenchFailed(" ".join(arguments.flag))

    with pytest.raises(SystemExit) as ended:
        answer(options_of("openings", None), fail)
    assert ended.value.code == 1
    assert (
        capsys.readouterr().err == "python -m channelstream.bench.openings: --engine=memory --compression\n"
    )


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many"])
def test_a_number_that_must_be_positive_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = options_of("calls", None)
    options.add_argument("--rounds", type=positive)
    assert options.parse_args(["--rounds", "2"]).rounds == 2
    with pytest.raises(SystemExit):
        options.parse_args([f"--rounds={text}"])
    assert f"argument --rounds: '{text}' is not a whole number from 1 on" in capsys.readouterr().err
