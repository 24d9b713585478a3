"""Webhooks in Pusher's format, as the server SDKs of Pusher verify them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import StartServer
from tests.pusher_calls import KIT
from tests.waiting import PATIENCE_S, eventually
from tests.webhook_receiver import Received, webhook_receiver

PROGRAMS = Path(__file__).with_name("pusher")

pytestmark = pytest.mark.slow


def verified(sdk: str, call: Received, secret: str = KIT["SECRET"]) -> dict[str, Any] | None:
    """Return what an SDK reads in a call, or None if it does not take it for one of its server."""
    if sdk == "python":
        pytest.importorskip("pusher", reason="No Python SDK of Pusher: the extra examples brings it.")
        command = [sys.executable, str(PROGRAMS / "webhook.py")]
    else:
        if shutil.which("node") is None or not (PROGRAMS / "node_modules/pusher").exists():
            pytest.skip("No SDK of Pusher for node: with node and npm, scripts/js-packages.sh brings it.")
        command = ["node", str(PROGRAMS / "webhook.cjs")]
    given = json.dumps({"headers": call.headers, "rawBody": call.body.decode(), "secret": secret})
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] | None = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("sdk", ["python", "node"])
def test_an_sdk_verifies_a_webhook(sdk: str, start_server: StartServer) -> None:
    """And reads its events; with another secret it refuses it."""
    with webhook_receiver() as receiver:
        server = start_server(
            *("--pusher-webhook-urls", receiver.url), CHANNELSTREAM_WEBHOOK_NETWORKS="127.0.0.1"
        )
        server.connect("ann", "pusher/news")
        eventually(lambda: bool(receiver.calls), "nothing is sent")
        [call] = receiver.calls
    assert call.headers["content-type"] == "application/json"
    found = verified(sdk, call)
    assert found == {
        "events": [{"name": "channel_occupied", "channel": "news"}],
        "time": json.loads(call.body)["time_ms"],
    }
    assert verified(sdk, call, "another-secret") is None
