"""pusher-js and Laravel Echo as their packages have them, against real servers."""

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.conftest import CLUSTER
from tests.waiting import PATIENCE_S

PROGRAMS = Path(__file__).with_name("pusher")
MASTER_KEY = base64.b64encode(b"k" * 32).decode()

pytestmark = [pytest.mark.slow, pytest.mark.nodes(1, 3, CLUSTER)]


def found_by(program: str, server: Any, mark: str) -> Any:
    """Return what a program has found; its two clients are at nodes that are drawn."""
    if shutil.which("node") is None or not (PROGRAMS / "node_modules/pusher-js").exists():
        pytest.skip("No client of Pusher for node: with node and npm, scripts/js-packages.sh brings it.")
    ports = [str(urlsplit(server.url).port) for _ in range(2)]
    command = ["node", PROGRAMS / program, mark, MASTER_KEY, *ports]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_pusher_js_works_unchanged(server: Any) -> None:
    """Channels of every kind, members, events of servers and clients, encryption, caches, users, refusals and ends."""
    found = found_by("client.cjs", server, "pjs")
    one, two = found["socket_ids"]
    assert one != two
    assert re.fullmatch(r"\d+\.\d+", one)
    ann = {"id": "ann", "info": {"name": "Ann"}}
    assert found["members"] == {"me": ann, "members": {"ann": {"name": "Ann"}}, "count": 1}
    assert found["members_of_two"] == {"ann": {"name": "Ann"}, "7": None}
    assert found["added"] == {"id": "7", "info": None}
    assert (found["event"], found["others"], found["unseen"]) == ({"id": 7}, "a text", [])
    assert found["client_event"] == {"data": {"n": [1]}, "user_id": "ann"}
    assert found["encrypted"] == {"id": 8}
    assert found["kept"] == {"id": 9}
    assert found["user"] == {"id": "pjs-u", "user_info": {"name": "U"}}
    assert found["note"] == {"id": 10}
    assert found["by_sign_in"] == {"id": "pjs-u", "info": {"name": "U"}}
    assert (found["refused"]["type"], found["refused"]["status"]) == ("AuthError", 401)
    assert (found["open_after_refusal"], found["terminated"]) == ("connected", "disconnected")
    assert found["removed"] == {"id": "7", "info": None}


def test_laravel_echo_works_unchanged(server: Any) -> None:
    """Its two broadcasters for this protocol: events, whispers, who is here, joins and leaves; an error is no end."""
    found = found_by("echo.cjs", server, "echo")
    ann, bob = {"name": "Ann"}, {"name": "Bob"}
    assert found["event"] == {"order": {"id": 7}}
    assert found["whisper"] == {"name": "Ann"}
    assert (found["others"], found["unseen"]) == ({"id": 8}, [])
    assert (found["here"], found["here_of_two"]) == ([ann], [ann, bob])
    assert (found["joining"], found["leaving"]) == (bob, bob)
    assert (found["error"]["type"], found["error"]["status"], found["state"]) == (
        "AuthError",
        401,
        "connected",
    )
