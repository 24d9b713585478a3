"""How the secret of Pusher's clients and SDKs changes: by its file, and without a stop."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.api.test_rotation import write
from tests.pusher_calls import KIT, call
from tests.pusher_client import line
from tests.waiting import eventually
from tests.webhook_receiver import webhook_receiver

from channelstream_client import verify_pusher_webhook

OLD, NEW = KIT | {"SECRET": "the old secret"}, KIT | {"SECRET": "the new secret"}
SUCCEEDED = "pusher_internal:subscription_succeeded"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "secret"


def start(start_server: Any, file: Path, **more: str) -> Any:
    name = write(file, OLD["SECRET"])
    return start_server(CHANNELSTREAM_PUSHER_SECRET_FILE=name, **more)


def change(server: Any, file: Path, *apps: dict[str, str]) -> None:
    write(file, *(app["SECRET"] for app in apps))
    os.kill(server.process.pid, signal.SIGHUP)


def accepts(server: Any, app: dict[str, str]) -> bool:
    return call(server, "GET", "/channels", app=app).status_code == 200


def joined(server: Any, app: dict[str, str]) -> str:
    """Return the answer to a client that shows a signature with the secret of an application."""
    with line(server, app) as client:
        return str(client.subscribe("private-a")["event"])


def test_a_secret_rotates_without_a_stop(start_server: Any, file: Path) -> None:
    """Both are accepted for a time, of calls and of clients, whose lines stay open and are excluded as before."""
    server = start(start_server, file)
    assert (accepts(server, OLD), accepts(server, NEW)) == (True, False)
    with line(server, OLD) as early:
        early.joins("private-a")
        change(server, file, NEW, OLD)
        eventually(lambda: accepts(server, NEW), "the new secret is refused")
        assert accepts(server, OLD)
        text = "a caller of the application 'default' at 127.0.0.1 signs with an older secret (pusher_secret_file)"
        eventually(lambda: text in server.process.line(1.0), "the log does not say who has to change")
        assert joined(server, OLD) == joined(server, NEW) == SUCCEEDED
        with line(server, NEW) as late:
            late.joins("private-a")
            for client, other in ((early, late), (late, early)):
                event = {"name": "hi", "channel": "private-a", "data": "{}"}
                call(server, "POST", "/events", event | {"socket_id": client.socket_id}, app=NEW)
                assert other.next()["event"] == "hi"
                assert client.nothing_more()
        change(server, file, NEW)
        eventually(lambda: not accepts(server, OLD), "the old secret is accepted")
        assert accepts(server, NEW)
        assert (joined(server, OLD), joined(server, NEW)) == ("pusher:subscription_error", SUCCEEDED)
        assert early.nothing_more()


def test_webhooks_are_signed_with_the_newest(start_server: Any, file: Path) -> None:
    """There is one signature in Pusher's format."""
    with webhook_receiver() as receiver:
        server = start(
            start_server,
            file,
            CHANNELSTREAM_PUSHER_WEBHOOK_URLS=receiver.url,
            CHANNELSTREAM_WEBHOOK_NETWORKS="127.0.0.1",
        )
        change(server, file, NEW, OLD)
        eventually(lambda: accepts(server, NEW), "the new secret is refused")
        with line(server, NEW) as client:
            client.joins("private-a")
            eventually(lambda: len(receiver.calls) > 0, "no webhook is sent")
    [sent, *_] = receiver.calls
    assert verify_pusher_webhook(sent.headers, sent.body, KIT["KEY"], NEW["SECRET"]).events


def test_a_broken_file_changes_nothing(start_server: Any, file: Path) -> None:
    """Nor does one with a secret of another application. The log says so, without a secret."""
    server = start(
        start_server,
        file,
        CHANNELSTREAM_APP_SHOP_SECRET="of the shop, long enough",
        CHANNELSTREAM_APP_SHOP_PUSHER_APP_ID="12",
        CHANNELSTREAM_APP_SHOP_PUSHER_KEY="shop-key",
        CHANNELSTREAM_APP_SHOP_PUSHER_SECRET="shop-secret",
    )
    for secrets in ((NEW["SECRET"], "hunter2 "), (NEW["SECRET"], "shop-secret")):
        write(file, *secrets)
        os.kill(server.process.pid, signal.SIGHUP)
        eventually(lambda: "the keys stay as they were" in server.process.line(1.0), "the log says nothing")
        assert (accepts(server, OLD), accepts(server, NEW)) == (True, False)
    _, log = server.stop()
    assert not [each for each in (OLD["SECRET"], NEW["SECRET"], "hunter2") if each in log]
