"""The server SDKs of Pusher, as their packages have them, against real servers."""

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import CLUSTER
from tests.http_client import http
from tests.pusher_calls import KIT
from tests.waiting import PATIENCE_S

from channelstream.core.pusher_signing import conn_id_of

PROGRAMS = Path(__file__).with_name("pusher")
MASTER_KEY = base64.b64encode(b"k" * 32).decode()
LAST = "the end"

pytestmark = [pytest.mark.slow, pytest.mark.nodes(1, CLUSTER)]


def in_python(*arguments: str) -> dict[str, Any]:
    pytest.importorskip("pusher", reason="No Python SDK of Pusher: the extra examples brings it.")
    return answers_of(sys.executable, PROGRAMS / "server_sdk.py", *arguments)


def in_node(*arguments: str) -> dict[str, Any]:
    if shutil.which("node") is None or not (PROGRAMS / "node_modules/pusher").exists():
        pytest.skip("No SDK of Pusher for node: with node and npm, scripts/js-packages.sh brings it.")
    return answers_of("node", PROGRAMS / "server_sdk.cjs", *arguments)


def answers_of(*command: str | Path) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


SDKS: dict[str, tuple[Callable[..., dict[str, Any]], dict[str, Any]]] = {
    "python": (
        in_python,
        {
            "too_long": "PusherBadStatus",
            "too_many": "PusherBadRequest",
            "attribute": "PusherBadRequest",
            "signature": "PusherBadAuth",
        },
    ),
    "node": (
        in_node,
        {
            "too_long": 413,
            "too_many": 400,
            "attribute": 400,
            "signature": 401,
            "to_user": {},
            "info": {
                "channels": {
                    "presence-sdk-node": {"user_count": 2, "subscription_count": 2},
                    "sdk-node-b": {"subscription_count": 1},
                }
            },
        },
    ),
}
"""What runs the program with an SDK; how this reports what is refused, and what only this one can do."""


def received(server: Any, conn_id: str) -> dict[str, list[tuple[str, Any]]]:
    """Return the name and the data of all that a connection has received, by channel; a message ends it."""
    items: list[dict[str, Any]] = []
    while not any(item["message"] == LAST for item in items):
        answer = http.get(server.url + "/listen", params={"conn_id": conn_id})
        assert answer.status_code == 200, answer.text
        items += answer.json()
    events: dict[str, list[tuple[str, Any]]] = {}
    for item in items:
        if item["message"] != LAST:
            events.setdefault(item["channel"], []).append((item["message"]["event"], item["message"]["data"]))
    return events


@pytest.mark.parametrize("sdk", SDKS)
def test_an_sdk_works_unchanged(server: Any, sdk: str) -> None:
    """Events, batches, exclusion, encryption, reads and refusals."""
    run, more = SDKS[sdk]
    mark, left_out = f"sdk-{sdk}", f"{len(sdk)}.4"
    one, other, hidden, presence = (
        f"pusher/{name}"
        for name in (f"{mark}-a", f"{mark}-b", f"private-encrypted-{mark}", f"presence-{mark}")
    )
    without = server.connect(mark, one, hidden, conn_id=conn_id_of(KIT["SECRET"], left_out))
    server.connect(mark, one, other, presence, conn_id=f"{mark}-1")
    server.connect(f"{mark}-2", presence, conn_id=f"{mark}-2")
    answers = run(str(server.port), mark, left_out, MASTER_KEY)
    server.post("/message", {"user": "x", "pm_users": [mark], "message": LAST})
    sent: dict[str, Any] = {name: {} for name in ("object", "text", "left_out", "batch", "encrypted")}
    counts = {"user_count": 2, "subscription_count": 2}
    assert sorted(each["id"] for each in answers.pop("users")["users"]) == [mark, f"{mark}-2"]
    assert answers.pop("presence")["channels"][f"presence-{mark}"] == {"user_count": 2}
    assert answers == {
        **sent,
        "channels": {
            "channels": {f"{mark}-a": {"subscription_count": 2}, f"{mark}-b": {"subscription_count": 1}}
        },
        "channel": {"occupied": True, **counts},
        **more,
    }
    events = received(server, f"{mark}-1")
    assert events[other][0] == ("created", {"id": 7})
    assert events[one] == [
        *(("created", {"id": 7}), ("said", "hello"), ("secret", {})),
        *(("first", {"n": 1}), ("second", {"n": 2})),
    ]
    of_left_out = received(server, without)
    assert of_left_out[one] == [event for event in events[one] if event[0] not in ("secret", "second")]
    [(name, data)] = of_left_out[hidden]
    assert (name, data.keys()) == ("hidden", {"nonce", "ciphertext"})
