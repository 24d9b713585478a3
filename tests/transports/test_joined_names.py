"""Names with joiners (U+200C, U+200D), as Persian, Indic scripts and emoji are written."""

from typing import Any

import pytest
from tests.http_client import http
from tests.waiting import PATIENCE_S
from websockets.sync.client import connect

PERSIAN = "علی\u200cرضا"
EMOJI = "👩\u200d💻"


@pytest.mark.parametrize("user_key", ["username", "user"], ids=["0.7", "0.2"])
def test_joiners_in_names_and_ids(server: Any, user_key: str) -> None:
    """Clients of both generations may have them in the names of users, channels and connections, on all transports."""
    conn_id, channel = f"{PERSIAN}-{user_key}", f"{EMOJI}-{user_key}"
    body = {user_key: PERSIAN, "conn_id": conn_id, "channels": [channel]}
    assert server.post("/connect", body)["conn_id"] == conn_id
    message = {"channel": channel, "user": PERSIAN, "message": "x"}
    query = {"conn_id": conn_id}
    server.post("/message", message)
    [item] = [
        each
        for each in http.get(f"{server.url}/listen", params=query).json()
        if each.get("type", "message") == "message"
    ]
    assert (item["channel"], item["user"]) == (channel, PERSIAN)
    with http.stream("GET", f"{server.url}/sse", params=query) as answer:
        assert answer.status_code == 200
    url = str(http.build_request("GET", f"{server.ws_url}/ws", params=query).url)
    with connect(url) as socket:
        server.post("/message", message)
        while "message" not in (text := socket.recv(timeout=PATIENCE_S)):
            pass
        assert PERSIAN in text


@pytest.mark.parametrize("conn_id", ["a\u200db", "\u200d", f"{PERSIAN}\u202e"])
def test_what_is_invisible_is_no_id(server: Any, conn_id: str) -> None:
    """A joiner that joins nothing, and characters that turn the direction of writing."""
    refused = server.request("POST", "/connect", {"username": "ann", "conn_id": conn_id, "channels": []})
    assert (refused.status_code, refused.json()["conn_id"]) == (422, ["Must be 1 to 128 visible characters."])
