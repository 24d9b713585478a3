"""The receivers of webhooks in other languages, as processes. Signatures are made by Standard Webhooks' own library."""

import hmac
import json
import os
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from standardwebhooks import Webhook
from tests.conftest import StartServer
from tests.examples.running import is_open
from tests.http_client import http
from tests.waiting import eventually

from channelstream_client.testing.port import HeldPort

ROOT = Path(__file__).parents[2]
SECRET, OLDER, FOREIGN = (
    "whsec_" + b64encode(text * 4).decode() for text in (b"present.", b"formerly", b"foreign.")
)
EVENT = {"id": "1", "type": "member.added", "channel": "Grüße", "user": "ann"}
BODY = json.dumps({"type": "channelstream.events", "data": {"events": [EVENT]}}, ensure_ascii=False)
COMMANDS = {
    "node": "exec node examples/node/webhook.js",
    "php": "exec php -d display_errors=1 -S 127.0.0.1:$PORT examples/php/webhook.php",
}


@contextmanager
def receiving(program: str, log: Path, secrets: str | None = f"{SECRET} {OLDER}") -> Iterator[str]:
    """Run a receiver; yield its address. Its output goes to a file. Without secrets it has no variable for them."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed.")
    with HeldPort() as port, log.open("wb") as output:
        environ = os.environ | {"PORT": str(port.number)}
        environ |= {} if secrets is None else {"WEBHOOK_SECRET": secrets}
        process = subprocess.Popen(
            ["sh", "-c", COMMANDS[program]], cwd=ROOT, env=environ, stdout=output, stderr=output
        )
        try:
            eventually(
                lambda: is_open(port.number) or process.poll() is not None, "the receiver did not start"
            )
            yield f"http://127.0.0.1:{port.number}/"
        finally:
            process.kill()
            process.wait()


def signed(secret: str = SECRET, ago_s: float = 0.0, body: str = BODY) -> dict[str, str]:
    sent = datetime.now(UTC) - timedelta(seconds=ago_s)
    signature = Webhook(secret).sign("msg_1", sent, body)
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(sent.timestamp())),
        "webhook-signature": signature,
    }


@pytest.mark.parametrize("program", COMMANDS)
def test_a_receiver_takes_what_is_signed(program: str, tmp_path: Path) -> None:
    """By one of its secrets, and lately; what it takes it prints."""
    log = tmp_path / "log"
    with receiving(program, log) as url:

        def status(headers: dict[str, str], body: str = BODY) -> int:
            return http.post(url, headers=headers, content=body.encode()).status_code

        foreign = signed(FOREIGN)
        both = signed()
        both["webhook-signature"] = " ".join(
            ["v1a,AAAA", foreign["webhook-signature"], both["webhook-signature"]]
        )
        assert [status(signed()), status(signed(OLDER)), status(both)] == [204] * 3
        refused = [
            {},
            signed(FOREIGN),
            signed(ago_s=400),
            signed(ago_s=-400),
            signed() | {"webhook-id": "msg_2"},
            signed() | {"webhook-timestamp": "now"},
            signed() | {"webhook-signature": "v1,"},
            signed() | {"webhook-signature": "v2," + signed()["webhook-signature"][3:]},
        ]
        assert [status(headers) for headers in refused] == [401] * len(refused)
        assert status(signed(), BODY + " ") == 401
        eventually(lambda: log.read_text("utf-8").count('"member.added"') == 3, "the events were not printed")


@pytest.mark.parametrize("secrets", [None, "", f"{SECRET}  "], ids=["none", "empty", "blanks"])
@pytest.mark.parametrize("program", COMMANDS)
def test_what_an_empty_secret_signs_is_refused(program: str, secrets: str | None, tmp_path: Path) -> None:
    """Else anybody could sign where the variable is not set, or has a blank too many."""
    headers = signed()
    mac = hmac.digest(b"", f"msg_1.{headers['webhook-timestamp']}.{BODY}".encode(), "sha256")
    headers["webhook-signature"] = f"v1,{b64encode(mac).decode()}"
    with receiving(program, tmp_path / "log", secrets) as url:
        assert http.post(url, headers=headers, content=BODY.encode()).status_code == 401


@pytest.mark.parametrize("program", COMMANDS)
def test_events_whose_handling_fails_are_not_taken(program: str, tmp_path: Path) -> None:
    """They are sent again. PHP answers 200 after an error that it shows."""
    body = '{"data": {"events": 1'
    with receiving(program, tmp_path / "log") as url:
        try:
            status = http.post(url, headers=signed(body=body), content=body.encode()).status_code
        except httpx.RemoteProtocolError:
            status = 0
        assert status in (0, 500)
        assert http.post(url, headers=signed(), content=BODY.encode()).status_code == 204


@pytest.mark.slow
@pytest.mark.parametrize("program", COMMANDS)
def test_a_receiver_takes_what_a_server_sends(
    program: str, tmp_path: Path, start_server: StartServer
) -> None:
    log = tmp_path / "log"
    with receiving(program, log) as url:
        server = start_server(
            *("--webhook-urls", url, "--webhook-networks", "127.0.0.1"), CHANNELSTREAM_WEBHOOK_SECRET=SECRET
        )
        server.connect("Zoë", "news")
        types = ('"channel.occupied"', '"user.online"')
        eventually(lambda: all(each in log.read_text("utf-8") for each in types), "it is not received")
