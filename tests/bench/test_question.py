"""Programs that answer one question: their options, and how they end."""

import argparse
import sys

import pytest

from channelstream.bench.load import BenchFailed
from channelstream.bench.question import answer, options_of


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
