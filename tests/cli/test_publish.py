"""`publish`, against a small server that records its requests."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.local_server import LocalHandler, LocalServer, running

from channelstream.cli import main
from channelstream.cli.publish import payload
from channelstream.core.request_signing import SCHEME, RequestSignature, hash_of


class Remembering(LocalServer):
    """Answers every POST with its own body and a status, and keeps path, headers and body."""

    status = 200

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        super().__init__(_Handler)


class _Handler(LocalHandler):
    server: Remembering

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.requests.append((self.path, dict(self.headers), json.loads(body)))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[Remembering]:
    """A running server."""
    with running(Remembering()) as remembering:
        yield remembering


def test_posts_a_signed_message(server: Remembering, capsys: pytest.CaptureFixture[str]) -> None:
    """One message is posted to /message with a signature of that path, and the answer is printed."""
    argv = ["publish", "--url", f"{server.url}/", "-s", "mine", "-c", "news", "-u", "alice", '{"text": "hi"}']
    assert main(argv, {}) == 0
    [(path, headers, body)] = server.requests
    assert path == "/message"
    signature = RequestSignature.read(headers["authorization"].removeprefix(f"{SCHEME} "))
    assert signature is not None
    assert signature.is_genuine(
        "mine", "POST", b"/message", hash_of(httpx.Request("POST", server.url, json=body).content)
    )
    assert body == [{"user": "alice", "channel": "news", "pm_users": [], "message": {"text": "hi"}}]
    assert json.loads(capsys.readouterr().out) == body


def test_a_private_message_needs_no_channel(server: Remembering) -> None:
    """--to may be repeated and needs no channel."""
    assert main(["publish", "--url", server.url, "--to", "bob", "--to", "eve", "psst"], {}) == 0
    [(_, _, [message])] = server.requests
    assert (message["channel"], message["pm_users"], message["message"]) == (None, ["bob", "eve"], "psst")


def test_the_address_is_that_of_the_settings(server: Remembering) -> None:
    """Without --url the server is where the settings say it listens."""
    assert main(["publish", "-p", str(server.server_port), "-c", "news", "hi"], {}) == 0
    assert len(server.requests) == 1


def test_a_refusal_is_one_line_without_a_secret(
    server: Remembering, capsys: pytest.CaptureFixture[str]
) -> None:
    """A refusal ends with exit code 1 and one line with status and answer, without secret or signature."""
    server.status = 422
    assert main(["publish", "--url", server.url, "-s", "hunter2", "-c", "news", "hi"], {}) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "/message answered 422: [{" in line
    assert "hunter2" not in line
    assert server.requests[0][1]["authorization"] not in line


def test_warns_of_a_file_that_is_not_read(
    server: Remembering,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A refused signature may come from a secret in a channelstream.ini that was not named; a named one warns of nothing."""
    monkeypatch.chdir(tmp_path)
    Path("channelstream.ini").write_text("[channelstream]\nsecret = mine\n")
    server.status = 401
    argv = ["publish", "--url", server.url, "-c", "news", "hi"]
    assert main(argv, {}) == 1
    warning, refusal = capsys.readouterr().err.splitlines()
    assert warning == (
        "warning: channelstream.ini is here and was not read: name it with -i channelstream.ini"
    )
    assert "/message answered 401" in refusal
    assert main([*argv, "-i", "channelstream.ini"], {}) == 1
    assert "was not read" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ("5", 5),
        ("null", None),
        ("hello", "hello"),
        ("{oops", "{oops"),
        ("NaN", "NaN"),
    ],
)
def test_what_is_no_json_is_sent_as_a_text(text: str, value: object) -> None:
    """JSON is sent as JSON, everything else as a text."""
    assert payload(text) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1e999}', "MESSAGE: 1e999 is out of range"),
        ("[" * 100_000, "MESSAGE: its lists and objects are nested too deep"),
    ],
    ids=["number", "nesting"],
)
def test_json_that_no_server_accepts_is_refused(
    capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    """Before a server is asked."""
    assert main(["publish", "--url", "http://127.0.0.1:1", "-c", "news", text], {}) == 2
    assert capsys.readouterr().err == f"channelstream: {said}\n"


@pytest.mark.parametrize(
    ("text", "is_hinted"),
    [
        ("{text: 1}", True),
        (" [1,", True),
        ('{"a": NaN}', True),
        ('{"text": 1}', False),
        ("[1]", False),
        ("lunch?", False),
    ],
)
def test_broken_json_is_sent_as_a_text_with_a_hint(
    server: Remembering, capsys: pytest.CaptureFixture[str], text: str, is_hinted: bool
) -> None:
    """On stderr, so that the answer on stdout stays JSON."""
    assert main(["publish", "--url", server.url, "-c", "news", text], {}) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)
    assert ("starts like JSON" in err) is is_hinted
