"""Clients with tokens whose streams move to another process."""

import asyncio
import os
import signal
import time
from contextlib import closing, suppress

import pytest
from tests.conftest import StartServer
from tests.http_client import http
from tests.streams import sse_items
from tests.token_client import SECRET, TokenClient, token
from tests.waiting import PATIENCE_S
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from channelstream.config import Settings
from channelstream.upgrade.control import ask_to_upgrade


def test_a_stream_keeps_what_its_token_says_in_another_process(start_server: StartServer) -> None:
    """Its grants, its end, and what revokes it; and revocations are known there. Who has sent no token yet comes back."""
    server = start_server("-s", SECRET, CHANNELSTREAM_TOKEN_MAX_AGE_S="3600")
    server.secret = SECRET
    refused = token("eve", iat=time.time() - 60)
    server.post("/revoke", {"user": "eve"})
    granted = {"subscribe": ["room.*"], "publish": ["room.1"]}
    headers = {"authorization": f"Bearer {token('bob')}"}
    with (
        connect(f"{server.ws_url}/ws") as waiting,
        closing(TokenClient(server.ws_url, token(**granted))) as client,
        http.stream("GET", f"{server.url}/sse", headers=headers) as events,
    ):
        items = sse_items(events.iter_lines())
        assert next(items)["result"]["user"] == "bob"
        client.command("subscribe", channels=["room.1"])
        report = asyncio.run(ask_to_upgrade(Settings(port=server.port)))
        try:
            with pytest.raises(ConnectionClosed, match="1012"):
                waiting.recv(PATIENCE_S)
            assert client.command("publish", channel="room.1", message="moved")["duplicate"] is False
            assert client.message() == "moved"
            assert client.command("subscribe", channels=["other"])["code"] == "forbidden"
            assert client.command("publish", channel="room.2", message=1)["code"] == "forbidden"
            assert http.get(f"{server.url}/sse", params={"token": refused}).json()["code"] == "bad_token"
            client.command("refresh", token=token(life_s=2))
            assert client.end() == (4003, "token expired")
            assert server.post("/revoke", {"user": "bob"}) == {"ended": 1}
            assert next(item for item in items if item["type"] == "closing")["code"] == 4003
        finally:
            with suppress(ProcessLookupError):
                os.kill(report.pid, signal.SIGKILL)
