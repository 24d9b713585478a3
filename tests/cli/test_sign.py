"""`sign PATH`."""

import pytest
from itsdangerous import TimestampSigner

from channelstream.cli import main


def test_prints_headers_that_verify(capsys: pytest.CaptureFixture[str]) -> None:
    """The two headers are printed, and the first holds the path signed with the secret of the settings."""
    assert main(["sign", "/message"], {"CHANNELSTREAM_SECRET": "mine"}) == 0
    headers = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert headers["x-channelstream-endpoint"] == "/message"
    assert TimestampSigner("mine").unsign(headers["x-channelstream-secret"], max_age=60) == b"/message"
