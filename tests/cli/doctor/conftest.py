"""The command `doctor`, whose output is read as JSON."""

import pytest
from tests.cli.doctor.report import SECRETS, Doctor, Report

from channelstream.cli import main


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Doctor:
    def run(*argv: str, secrets: tuple[str, ...] = SECRETS) -> Report:
        code = main(["doctor", "--json", *secrets, *argv], {})
        out, err = capsys.readouterr()
        assert err == ""
        return Report(code, out)

    return run
