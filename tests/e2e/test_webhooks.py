"""Webhooks of real servers: what a receiver is sent, in order, and when the node that sends is killed."""

import asyncio
import hmac
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook
from tests.conftest import RunningServer, launch
from tests.pusher_calls import KIT
from tests.pusher_client import line
from tests.redis_server import RedisServer
from tests.waiting import PATIENCE_S, eventually
from tests.webhook_receiver import SECRET, WebhookReceiver, webhook_receiver

from channelstream.config import Settings
from channelstream.upgrade.control import ask_to_upgrade
from channelstream_client.testing.port import HeldPort

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


CONNECTIONS, CHANNELS = 40, 250
"""So many connections join so many channels each, by one call: as many joins as fit into a second."""


def test_ten_thousand_joins_are_all_sent(receiver: WebhookReceiver) -> None:
    """Each once, in order for each channel; calls are answered meanwhile."""
    server = launch_with(receiver)
    try:
        for number in range(CONNECTIONS):
            names = [f"c{number}-{channel}" for channel in range(CHANNELS)]
            server.connect(f"u{number}", *names, channel_configs=dict.fromkeys(names, PRESENT))
        eventually(lambda: count_of(receiver) >= 2 * CONNECTIONS * CHANNELS, "some are missing")
        by_channel: dict[str, list[str]] = {}
        for event in receiver.events:
            if "channel" in event:
                by_channel.setdefault(event["channel"], []).append(event["type"])
        assert len(by_channel) == CONNECTIONS * CHANNELS
        assert {tuple(types) for types in by_channel.values()} == {("channel.occupied", "member.added")}
    finally:
        server.stop()


def count_of(receiver: WebhookReceiver) -> int:
    return sum(call.body.count(b'"channel":') for call in list(receiver.calls))


def test_a_dead_receiver_holds_nobody_up(receiver: WebhookReceiver) -> None:
    """Neither calls, nor another receiver; the log names it, without its query."""
    with HeldPort() as held:
        dead = f"http://127.0.0.1:{held.number}/dead"
        server = launch_with(receiver, "--webhook-urls", f"{dead}?token=1 {receiver.url}")
        try:
            for number in range(5):
                server.connect("ann", f"c{number}")
                eventually(lambda: types_of(receiver, f"c{number}") == ["channel.occupied"], "it is held up")  # noqa: B023
        finally:
            _, log = server.stop()
    assert f"webhooks: {dead} does not take a call: no answer" in log
    assert "token" not in log


def test_pusher_is_sent_in_its_own_format(receiver: WebhookReceiver) -> None:
    """Signed with the application's secret, one event a call, about Pusher's channels only, and nothing internal."""
    server = launch(
        "--pusher-webhook-urls", receiver.url, CHANNELSTREAM_WEBHOOK_NETWORKS="127.0.0.1"
    )  # fmt: skip
    try:
        server.connect("native", "other")
        with line(server) as ann, line(server) as bob:
            ann.joins("presence-room", "7")
            bob.joins("presence-room", "8")
            ann.sign_in('{"id":"7"}')
            assert ann.next()["event"] == "pusher:signin_success"
            ann.sends("client-hi", {"n": 1}, channel="presence-room")
            assert bob.next()["event"] == "client-hi"
            assert ann.subscribe("cache-empty")["event"] == "pusher_internal:subscription_succeeded"
            eventually(lambda: "cache_miss" in names(receiver), "the miss is not sent")
            eventually(lambda: "client_event" in names(receiver), "the event is not sent")
            socket_id = ann.socket_id
        eventually(lambda: names(receiver).count("channel_vacated") == 2, "the end is not sent")
        about_room = [each for each in receiver.events if each["channel"] == "presence-room"]
        assert Counter(each["name"] for each in about_room) == {
            "channel_occupied": 1, "member_added": 2, "client_event": 1, "member_removed": 2, "channel_vacated": 1,
        }  # fmt: skip
        assert [each["user_id"] for each in about_room if each["name"] == "member_added"] == ["7", "8"]
        [event] = [each for each in about_room if each["name"] == "client_event"]
        assert event == {
            "name": "client_event", "channel": "presence-room", "event": "client-hi", "data": '{"n": 1}',
            "socket_id": socket_id, "user_id": "7",
        }  # fmt: skip
        assert {each["channel"] for each in receiver.events} == {"presence-room", "cache-empty"}
        for call in receiver.calls:
            assert len(call.events) == 1
            assert call.headers["content-type"] == "application/json"
            assert {"X-Pusher-Key", "X-Pusher-Signature"} <= set(call.names), (
                "PHP's SDK looks for these names."
            )
            assert call.headers["x-pusher-key"] == KIT["KEY"]
            mac = hmac.digest(KIT["SECRET"].encode(), call.body, "sha256").hex()
            assert call.headers["x-pusher-signature"] == mac
    finally:
        server.stop()


def names(receiver: WebhookReceiver) -> list[str]:
    return [each["name"] for each in receiver.events]


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
def test_an_upgrade_loses_nothing_and_repeats_nothing(
    receiver: WebhookReceiver, engine: str, tmp_path: Path
) -> None:
    """The new process goes on with what the old one had not sent, which also is what happened before."""
    where = "memory" if engine == "memory" else f"sqlite:///{tmp_path / 'state.db'}"
    server = launch_with(receiver, "--engine", where)
    try:
        users = [f"u{number}" for number in range(40)]
        conn_ids = [server.connect(user, "a", channel_configs={"a": PRESENT}) for user in users[:20]]
        eventually(lambda: len(types_of(receiver, "a")) == 21, "it is not sent")
        receiver.status = 503
        conn_ids += [server.connect(user, "a") for user in users[20:]]
        tried = len(receiver.calls)
        eventually(lambda: len(receiver.calls) > tried, "it is not tried")
        report = asyncio.run(ask_to_upgrade(Settings(port=server.port)))
        receiver.status = 200
        for conn_id in conn_ids[:10]:
            server.post("/disconnect", {"conn_id": conn_id})
        eventually(
            lambda: types_of(receiver, "a").count("member.removed") == 10, "the new process does not go on"
        )
        added = [each for each in accepted(receiver) if each["type"] == "member.added"]
        assert [each["user"] for each in added] == users
        os.kill(report.pid, signal.SIGINT)
    finally:
        server.stop()


def accepted(receiver: WebhookReceiver) -> list[dict[str, Any]]:
    """Return the events of the calls that were answered with 200."""
    return [event for call in list(receiver.calls) if call.status == 200 for event in call.events]
