"""An upgrade of a server with several applications: each goes on, except one that is no longer configured."""

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from tests.applications import SECRETS, RunningApp, app_of
from tests.conftest import launch
from tests.streams import next_items
from tests.waiting import PATIENCE_S
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from channelstream.config import Settings
from channelstream.upgrade.control import ask_to_upgrade


def configure(path: Path, *app_ids: str) -> None:
    sections = [f"[app:{app_id}]\nsecret = {SECRETS[app_id]}\n" for app_id in app_ids]
    path.write_text("".join(["[channelstream]\n", *sections]))


def open_stream(app: RunningApp) -> ClientConnection:
    """Register a connection in the channel `room`, and return its stream, which waits for pongs as long as the test does."""
    url = f"{app.ws_url}/ws?conn_id={app.connect('ann', 'room')}&since="
    return connect(url, open_timeout=PATIENCE_S, ping_interval=None)


@pytest.mark.slow
def test_an_application_that_is_kept_goes_on(tmp_path: Path) -> None:
    """With its streams; those of a removed one are closed, since nobody could publish to them any more."""
    path = tmp_path / "apps.ini"
    configure(path, "shop", "blog")
    server = launch("-i", str(path))
    pid = None
    try:
        shop, blog = app_of(server, "shop"), app_of(server, "blog")
        with open_stream(shop) as kept, open_stream(blog) as removed:
            next_items(kept)
            next_items(removed)
            configure(path, "shop")
            pid = asyncio.run(ask_to_upgrade(Settings(port=server.port))).pid
            with pytest.raises(ConnectionClosed) as closed:
                removed.recv(PATIENCE_S)
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (
                4001,
                "its application is no longer configured",
            )
            shop.post("/message", {"user": "ann", "channel": "room", "message": "m"})
            assert [item["message"] for item in next_items(kept) if item["type"] == "message"] == ["m"]
            assert blog.request("GET", "/info").status_code == 404
    finally:
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        server.stop()
