"""A real receiver whose code fails at some events: the others are sent meanwhile, also over a restart of the server."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from tests.admin.test_webhooks import shown
from tests.conftest import RunningServer
from tests.e2e.test_webhooks import PRESENT, accepted, kill, launch_with, receiver
from tests.redis_server import RedisServer
from tests.waiting import eventually
from tests.webhook_receiver import WebhookReceiver

from channelstream.config import Settings
from channelstream.upgrade.control import ask_to_upgrade

pytestmark = pytest.mark.slow

__all__ = ["receiver"]
BAD = frozenset((b'"bad"',))


def accepted_of(receiver: WebhookReceiver, channel: str) -> list[str]:
    """Return the types of the accepted events about a channel, each event once, as they came."""
    known = {each["id"]: each for each in accepted(receiver) if each.get("channel") == channel}
    return [each["type"] for each in known.values()]


def added_in_bad(receiver: WebhookReceiver) -> list[str]:
    """Return the users that joined the channel, as it is accepted."""
    found = [each for each in accepted(receiver) if each.get("channel") == "bad"]
    return list(dict.fromkeys(each["user"] for each in found if each["type"] == "member.added"))


def is_tried(receiver: WebhookReceiver) -> bool:
    """Whether an event about the channel was refused alone."""
    return any(call.status == 400 and len(call.events) == 1 for call in list(receiver.calls))


def others_go_on(server: RunningServer, receiver: WebhookReceiver, user: str) -> None:
    """Let one event be refused, and see that those of other channels are accepted, from then on as well."""
    server.connect(user, "bad", f"first-{user}", channel_configs={"bad": PRESENT})
    eventually(lambda: is_tried(receiver), "it is not tried alone")
    server.connect("bob", f"second-{user}")
    for channel in ("first", "second"):
        eventually(lambda: bool(accepted_of(receiver, f"{channel}-{user}")), "it is held up")  # noqa: B023
    assert accepted_of(receiver, "bad") == []


@pytest.mark.parametrize("engine", ["memory", "sqlite", "redis"])
def test_an_event_that_is_refused_holds_up_its_channel_only(
    receiver: WebhookReceiver, engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Once it is accepted, all of its channel are, in order. A process that is killed or replaced loses nothing of this."""
    where = {"memory": "memory", "sqlite": f"sqlite:///{tmp_path / 'state.db'}"}.get(engine, "")
    if engine == "redis":
        redis: RedisServer = request.getfixturevalue("redis")
        redis.cli("FLUSHALL")
        where = redis.address
    receiver.refuses = BAD
    server = launch_with(receiver, "--engine", where)
    pid = None
    try:
        others_go_on(server, receiver, "ann")
        receiver.calls = []
        if engine == "memory":
            pid = asyncio.run(ask_to_upgrade(Settings(port=server.port))).pid
        else:
            if engine == "sqlite":
                kill(server)
            else:
                server.stop()  # Which releases the lease: the next node sends at once.
            server = launch_with(receiver, "--engine", where)
        others_go_on(server, receiver, "cid")
        receiver.refuses = frozenset()
        eventually(lambda: added_in_bad(receiver) == ["ann", "cid"], "its channel does not go on")
        assert accepted_of(receiver, "bad")[:2] == ["channel.occupied", "member.added"]
    finally:
        if pid is not None:
            os.kill(pid, signal.SIGINT)
        server.stop()


def test_a_receiver_that_wants_no_more_is_called_seldom(receiver: WebhookReceiver) -> None:
    """By 410: what happens before the next call is due is given up without one, and once it is back it is sent again."""
    receiver.status = 410
    server = launch_with(receiver)
    users = 0

    def connect() -> None:
        nonlocal users
        users += 1
        server.connect(f"u{users}", "a")

    def is_given_up_at_once() -> bool:
        connect()
        return "not called after status 410" in {each["reason"] for each in shown(server)["letters"]}

    def is_sent() -> bool:
        connect()
        return bool(accepted(receiver))

    try:
        eventually(is_given_up_at_once, "it is called each time")
        receiver.status = 200
        eventually(is_sent, "it is not called again")
    finally:
        server.stop()
