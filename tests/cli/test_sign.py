"""`sign PATH`."""

import pytest
from itsdangerous import TimestampSigner

from channelstream.cli import main
from channelstream.core.request_signing import SCHEME, RequestSignature, hash_of


def test_prints_headers_that_verify(capsys: pytest.CaptureFixture[str]) -> None:
    """The two headers are printed, and the first holds the path signed with the secret of the settings."""
    assert main(["sign", "/message"], {"CHANNELSTREAM_SECRET": "mine"}) == 0
    headers = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert headers["x-channelstream-endpoint"] == "/message"
    assert TimestampSigner("mine").unsign(headers["x-channelstream-secret"], max_age=60) == b"/message"


@pytest.mark.parametrize("flags", [[], ["--data", "{}"]])
def test_the_old_form_is_printed_where_no_other_is_accepted(
    capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    """Whatever else is given: the server would refuse a signature over the whole request."""
    flags = ["--request-signing", "old", *flags]
    assert main(["sign", "/message", *flags], {"CHANNELSTREAM_SECRET": "mine"}) == 0
    assert "x-channelstream-secret: /message." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "method", "body"),
    [
        (["--data", '{"a": "\u00e9"}'], "POST", '{"a": "\u00e9"}'),
        (["--method", "get"], "GET", ""),
        (["--method", "DELETE", "--data", "{}"], "DELETE", "{}"),
        (["--request-signing", "signed"], "GET", ""),
    ],
)
def test_a_whole_request_is_signed(
    capsys: pytest.CaptureFixture[str], flags: list[str], method: str, body: str
) -> None:
    """Where its body or method is given, or the server takes no other signature."""
    assert main(["sign", "/info?a=b", *flags], {"CHANNELSTREAM_SECRET": "mine"}) == 0
    line, *digest = capsys.readouterr().out.splitlines()
    assert [each.partition("=")[0] for each in digest] == (["content-digest: sha-256"] if body else [])
    signature = RequestSignature.read(line.removeprefix(f"authorization: {SCHEME} "))
    assert signature is not None
    assert signature.is_genuine("mine", method, b"/info?a=b", hash_of(body.encode()))


def test_a_key_signs_the_whole_request(capsys: pytest.CaptureFixture[str]) -> None:
    """Its secret is in the environment or in the file of keys, and its id in the header."""
    environ = {"CHANNELSTREAM_KEY_SECRET": "k" * 32}
    assert main(["sign", "/info", "--key", "web-1"], environ) == 0
    line = capsys.readouterr().out.strip()
    signature = RequestSignature.read(line.removeprefix(f"authorization: {SCHEME} "))
    assert signature is not None
    assert signature.key_id == "web-1"
    assert signature.is_genuine("k" * 32, "GET", b"/info", hash_of(b""))


def test_an_application_signs_with_its_own_secret(capsys: pytest.CaptureFixture[str]) -> None:
    """That of its section; the path is without its prefix."""
    environ = {"CHANNELSTREAM_SECRET": "mine", "CHANNELSTREAM_APP_SHOP_SECRET": "of the shop"}
    assert main(["sign", "/message", "--app", "shop"], environ) == 0
    headers = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert TimestampSigner("of the shop").unsign(headers["x-channelstream-secret"], max_age=60) == b"/message"
