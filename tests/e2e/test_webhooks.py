"""Webhooks of real servers: what a receiver is sent, in order, and when the node that sends is killed."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook
from tests.conftest import RunningServer, launch
from tests.http_client import async_client
from tests.redis_server import RedisServer
from tests.waiting import PATIENCE_S, eventually
from tests.webhook_receiver import SECRET, WebhookReceiver, webhook_receiver

pytestmark = pytest.mark.slow


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with webhook_receiver() as running:
        yield running


def launch_with(receiver: WebhookReceiver, *flags: str, **environ: str) -> RunningServer:
    own = {"CHANNELSTREAM_WEBHOOK_SECRET": SECRET, "CHANNELSTREAM_WEBHOOK_NETWORKS": "127.0.0.1"}
    return launch("--webhook-urls", receiver.url, *flags, **own, **environ)


def kill(server: RunningServer) -> None:
    server.process.kill()
    server.process.communicate(timeout=PATIENCE_S)


def types_of(receiver: WebhookReceiver, channel: str) -> list[str]:
    """Return the types of the events about a channel, each event once, as they came."""
    known = {each["id"]: each for each in receiver.events if each.get("channel") == channel}
    return [each["type"] for each in known.values()]


PRESENT = {"notify_presence": True}


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
def test_a_receiver_is_sent_what_happens(receiver: WebhookReceiver, engine: str, tmp_path: Path) -> None:
    """Signed, so that the library of Standard Webhooks verifies it; a restart of its page makes no noise."""
    where = "memory" if engine == "memory" else f"sqlite:///{tmp_path / 'state.db'}"
    server = launch_with(receiver, "--engine", where)
    try:
        first = server.connect("ann", "a", channel_configs={"a": PRESENT})
        eventually(lambda: types_of(receiver, "a") == ["channel.occupied", "member.added"], "it is not sent")
        server.post("/disconnect", {"conn_id": first})
        second = server.connect("ann", "a")
        server.post("/disconnect", {"conn_id": second})
        expected = ["channel.occupied", "member.added", "member.removed", "channel.vacated"]
        eventually(lambda: types_of(receiver, "a") == expected, "its end is not sent")
        for call in receiver.calls:
            assert call.headers["content-type"] == "application/json"
            Webhook(SECRET).verify(call.body, call.headers)
        [online] = [each for each in receiver.events if each["type"] == "user.online"]
        assert online["user"] == "ann"
    finally:
        server.stop()


def test_a_restart_of_the_server_loses_nothing(receiver: WebhookReceiver, tmp_path: Path) -> None:
    """It is killed while its receiver is down; the next run sends what happened before, in order."""
    where = f"sqlite:///{tmp_path / 'state.db'}"
    receiver.status = 503
    server = launch_with(receiver, "--engine", where)
    try:
        for number in range(20):
            server.connect(f"u{number}", "a", channel_configs={"a": PRESENT})
        eventually(lambda: bool(receiver.calls), "nothing is sent")
    finally:
        kill(server)
    receiver.status, receiver.calls = 200, []
    server = launch_with(receiver, "--engine", where)
    try:
        eventually(lambda: len(types_of(receiver, "a")) == 21, "it does not go on")
        assert types_of(receiver, "a") == ["channel.occupied", *["member.added"] * 20]
    finally:
        server.stop()


def test_another_node_goes_on_when_the_sender_is_killed(
    receiver: WebhookReceiver, redis: RedisServer
) -> None:
    """Nothing is missing, ids are those of before, and the connections of the dead node have ended."""
    redis.cli("FLUSHALL")
    flags = ("--engine", redis.address, "--node-lease-s", "3")
    servers = [launch_with(receiver, *flags)]
    try:
        servers[0].connect("ann", "a", channel_configs={"a": PRESENT})
        eventually(lambda: len(types_of(receiver, "a")) == 2, "the first node does not send")
        servers.append(launch_with(receiver, *flags))
        servers[1].connect("bob", "b", channel_configs={"b": PRESENT})
        eventually(lambda: len(types_of(receiver, "b")) == 2, "it does not send for the others")
        receiver.status = 503
        servers[0].connect("cid", "a")
        eventually(lambda: "cid" in str(receiver.calls[-1].body), "the first node does not try")
        [failed] = {each["id"] for each in receiver.calls[-1].events if each["type"] == "member.added"}
        kill(servers[0])
        receiver.status = 200
        expected = ["channel.occupied", "member.added", "member.added", "member.removed", "member.removed"]
        eventually(
            lambda: Counter(types_of(receiver, "a")) == Counter([*expected, "channel.vacated"]), "it ends"
        )
        assert types_of(receiver, "a")[:3] == expected[:3]
        assert [each["id"] for each in receiver.events if each.get("user") == "cid"].count(failed) > 1
        assert types_of(receiver, "b") == ["channel.occupied", "member.added"]
    finally:
        for server in servers:
            kill(server)


JOINS = 10_000


def test_very_many_joins_are_all_sent(receiver: WebhookReceiver) -> None:
    """Each once, and calls are answered meanwhile."""
    server = launch_with(receiver, CHANNELSTREAM_WEBHOOK_EVENTS="member.added channel.occupied")
    try:
        asyncio.run(join(server, JOINS))
        eventually(lambda: len(receiver.events) >= JOINS + 1, "some are missing")
        added = Counter(each["user"] for each in receiver.events if each["type"] == "member.added")
        assert added == Counter(f"u{number}" for number in range(JOINS))
    finally:
        server.stop()


async def join(server: RunningServer, count: int) -> None:
    numbers = iter(range(count))

    async def some(client: Any) -> None:
        for number in numbers:
            body = {"username": f"u{number}", "channels": ["a"], "channel_configs": {"a": PRESENT}}
            answer = await client.post(f"{server.url}/connect", json=body, headers=server.sign("/connect"))
            assert answer.status_code == 200

    async with async_client() as client:
        await asyncio.gather(*(some(client) for _ in range(20)))


def test_a_dead_receiver_holds_nobody_up(receiver: WebhookReceiver) -> None:
    """Neither deliveries, nor another receiver."""
    server = launch_with(
        receiver,
        CHANNELSTREAM_WEBHOOK_URLS=f"{receiver.url} http://127.0.0.1:9/dead",
        CHANNELSTREAM_SECRET="x",
    )
    try:
        began = time.monotonic()
        server.connect("ann", "a")
        eventually(lambda: types_of(receiver, "a") == ["channel.occupied"], "the other one is sent nothing")
        assert time.monotonic() - began < 60
    finally:
        server.stop()
