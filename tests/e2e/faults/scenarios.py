"""The fault of each scenario, and what it may lose."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree
from typing import Any

import httpx
from tests.e2e.clocks import shifted_clock
from tests.e2e.faults.client import LOBBY, Seen
from tests.e2e.faults.cluster import ANSWER_S, LEASE_S, Node, Shape
from tests.e2e.faults.failovers import (
    promote_a_replica,
    replication_of,
    upgrade_in_a_failover,
    wake_an_old_master,
)
from tests.e2e.faults.stage import CHANNELS, PROGRESS, Stage
from tests.e2e.faults.truth import PRIVATE
from tests.http_client import async_client
from tests.waiting import soon

from channelstream.core.position import shard_of
from channelstream.engines.redis.address import prefixes

EVERYTHING = frozenset({PRIVATE, LOBBY, *CHANNELS})
NEWS, TALK = CHANNELS[0], CHANNELS[-1]
MASTERS = 3
"""Of a Redis cluster; the channels lie in two of its shards, the users in all."""
REFUSED, ACCEPTED = 20, 5
"""Calls while one of them is away."""
SHORT = "short"
"""A channel that keeps little, to which big messages go."""
SHORT_EVENTS = 5
BURST = 150
BURST_BYTES = 12_000
"""Valkey 9.1 does not count texts from 16 KiB on for the limit of a subscription."""
BIG = "big"
"""A channel whose messages are several to a read of the log."""
BIG_BURST = 16
BIG_BYTES = 300_000
SUBSCRIPTION_BYTES = 262_144
"""What Redis may hold back for a subscription."""
PULSES = 30
SILENT = "nothing arrived over its subscription"
VISITS, PATIENCE_S = 10, 20.0
STILL_S, MOVING_S = 0.08, 0.02


@dataclass(frozen=True)
class Scenario:
    """One fault under load.

    Attributes:
        breaks: does the fault, and waits until all continues.
        loses: the channels that may be reported lost to clients; no others may.
        shape: makes how the cluster is started, given a directory.
        absent: clients at the victim that do not come back.
        more_channels: those that half of the clients are in besides.
    """

    breaks: Callable[[Stage], Awaitable[None]]
    loses: frozenset[str] = frozenset()
    shape: Callable[[Path], Shape] = field(default=lambda _: Shape())
    absent: int = 0
    more_channels: Sequence[str] = ()


async def kill_a_node(stage: Stage) -> None:
    """Its clients resume elsewhere; the others leave, once and not before the lease has expired."""
    await stage.progress()
    killed_at = datetime.now(UTC)
    stage.cluster.kill(stage.victim)
    await stage.progress()
    gone = {client.user for client in stage.absent}
    with stage.calm():
        await stage.until(
            "all receive the leave",
            lambda: all(gone <= {seen.user for seen in parted(client.presence)} for client in stage.clients),
        )
    await stage.progress()
    for client in stage.clients:
        seen = parted(client.presence)
        assert sorted(each.user for each in seen) == sorted(gone), client.user
        for each in seen:
            after_s = (datetime.fromisoformat(each.at).replace(tzinfo=UTC) - killed_at).total_seconds()
            # The last beat before the kill is up to a third of the lease old, or late.
            assert after_s > LEASE_S / 2, each


def parted(presence: Sequence[Seen | None]) -> list[Seen]:
    return [each for each in presence if each is not None and each.action == "parted"]


async def restart_redis_with_data(stage: Stage) -> None:
    await _restart_redis(stage, lambda directory: None)


async def restart_redis_without_data(stage: Stage) -> None:
    def forget(directory: Path) -> None:
        for kept in directory.glob("*.rdb"):
            kept.unlink()
        rmtree(directory / "appendonlydir", ignore_errors=True)

    await _restart_redis(stage, forget)


async def _restart_redis(stage: Stage, between: Callable[[Path], None]) -> None:
    redis = stage.cluster.redis
    await stage.progress()
    redis.kill()
    with stage.outage(*stage.cluster.nodes) as outage:
        await stage.refused(outage)
        between(redis.socket.parent)
    await asyncio.to_thread(redis.start)
    await stage.all_lost()


async def stop_redis(stage: Stage) -> None:
    redis = stage.cluster.redis
    await stage.progress()
    redis.signal(signal.SIGSTOP)
    try:
        with stage.outage(*stage.cluster.nodes) as outage:
            await stage.refused(outage)
            with stage.calm():
                await asyncio.sleep(stage.outage_s)  # real time: the length of the outage.
    finally:
        redis.signal(signal.SIGCONT)
    await stage.progress()


async def cut_a_node_off(stage: Stage) -> None:
    [line] = stage.cluster.lines.values()
    await stage.progress()
    line.cut()
    with stage.outage(stage.victim) as outage:
        await stage.refused(outage)
        with stage.calm():
            await asyncio.sleep(stage.outage_s)  # real time: the length of the outage.
    line.mend()
    await stage.progress()


async def silence_a_subscription(stage: Stage) -> None:
    """A node no longer receives published events, and no line ends: it detects that, and its clients miss nothing."""
    [line] = stage.cluster.lines.values()
    await stage.progress()
    line.silence_subscriptions()
    await stage.until("the node gives it up", lambda: SILENT in stage.victim.log)
    await stage.progress()


async def miss_big_messages(stage: Stage) -> None:
    """A node that is cut off while megabytes are published reads them in bounded steps; the others continue."""
    [line] = stage.cluster.lines.values()
    await stage.progress()
    big = stage.publisher(BIG)
    line.cut()
    with stage.outage(stage.victim) as outage:
        await big.burst(stage.others[0], BIG_BURST, BIG_BYTES)
        await stage.refused(outage)
    line.mend()
    await stage.progress()


async def overflow_a_subscription(stage: Stage) -> None:
    """Redis drops a stalled subscription: entries in the log arrive late, others are reported lost."""
    redis = stage.cluster.redis
    redis.cli("CONFIG", "SET", "client-output-buffer-limit", f"pubsub {SUBSCRIPTION_BYTES} 0 0")
    await stage.progress()

    def subscriptions() -> int:
        return redis.cli("CLIENT", "LIST", "TYPE", "pubsub").count("\n") + 1

    before = subscriptions()
    short, news = stage.publisher(SHORT), stage.publisher(NEWS)
    stage.victim.signal(signal.SIGSTOP)
    try:
        await short.burst(stage.others[0], BURST, BURST_BYTES)
        await stage.until("Redis drops it", lambda: subscriptions() < before)
        await short.burst(stage.others[0], 2 * SHORT_EVENTS, BURST_BYTES)
        await news.burst(stage.others[0], BURST, 0)
    finally:
        stage.victim.signal(signal.SIGCONT)
    await stage.until(
        "a client is sent the loss", lambda: any(frozenset({SHORT}) in each.losses for each in stage.clients)
    )
    await stage.until("it receives again", lambda: subscriptions() == before)
    await short.burst(stage.others[0], SHORT_EVENTS, 0)
    await stage.progress()


async def slow_a_node(stage: Stage) -> None:
    """The victim gets a fifth of its processor time for some seconds."""
    await stage.progress()
    for _ in range(PULSES):
        stage.victim.signal(signal.SIGSTOP)
        await asyncio.sleep(STILL_S)  # real time: the node is stopped.
        stage.victim.signal(signal.SIGCONT)
        await asyncio.sleep(MOVING_S)  # real time: the node runs.
    await stage.progress()


async def lose_a_master(stage: Stage) -> None:
    """Calls that need it are refused, others are not; back without data, its channels are reported lost, and no others."""
    await stage.progress()
    lost = shard_of(TALK, MASTERS)
    master = stage.cluster.servers[_place(stage, lost)]
    master.kill()
    begun_s = time.monotonic()

    def answers(status: int) -> int:
        return sum(each.status == status and each.begun_s > begun_s for each in stage.attempts)

    await stage.until("calls are refused", lambda: answers(503) >= REFUSED)
    # Each publisher gets on until it has a private message for somebody there.
    assert answers(200) >= ACCEPTED
    await _visit(stage, lost)
    await asyncio.to_thread(master.start)
    await _one_lost(stage)


async def lose_a_master_with_a_replica(stage: Stage) -> None:
    """The replica takes its place: only the channels of its shard are reported lost."""
    await stage.progress()
    place = _place(stage, shard_of(TALK, MASTERS))
    stage.cluster.servers[place].kill()
    replica = stage.cluster.servers[MASTERS + place]
    await stage.until("the replica is promoted", lambda: "role:master" in replication_of(replica))
    await _one_lost(stage)


def _place(stage: Stage, shard: int) -> int:
    """Return the place of the master that has a shard."""
    keys = f"{prefixes(MASTERS)[shard]}*"
    return next(place for place, each in enumerate(stage.cluster.servers) if each.cli("KEYS", keys))


async def _one_lost(stage: Stage) -> None:
    """Wait until a channel of the lost master is reported lost to all that are in it."""
    receivers = [client for client in stage.clients if TALK in client.accounts]
    await stage.until(
        "its channel is reported lost", lambda: all(any(TALK in lost for lost in c.losses) for c in receivers)
    )
    await stage.progress()


async def _visit(stage: Stage, lost: int) -> None:
    """Connect, publish, resume at another node and disconnect, all of it in shards other than this one."""
    names = [name for name in map("visit-{}".format, range(50)) if shard_of(name, MASTERS) != lost]
    async with async_client(timeout=ANSWER_S) as http:
        for node in stage.cluster.nodes:
            # A load balancer that probes all nodes would have none left.
            assert (await http.get(node.url + "/readyz")).text == "ok"

        async def answer_of(method: str, url: str, **more: Any) -> Any:
            """Ask again where a live master did not answer in time on a busy machine; the lost one stays away meanwhile."""
            answers: list[httpx.Response] = []

            async def is_done() -> bool:
                answers.append(await http.request(method, url, **more))
                return answers[-1].status_code != 503

            await soon(is_done, f"{url} needs the master that is lost", PATIENCE_S)
            assert answers[-1].status_code == 200, answers[-1].text
            return answers[-1].json()

        async def call(node: Node, path: str, body: object) -> Any:
            return await answer_of("POST", node.url + path, json=body, headers=node.sign(path))

        for name in names[:VISITS]:
            here, there = stage.random.sample(stage.cluster.nodes, 2)
            made = await call(here, "/connect", {"username": name, "channels": names})
            await call(here, "/message", [{"user": "app", "channel": name, "message": {"visit": name}}])
            poll = f"{there.url}/listen?conn_id={made['conn_id']}&since={made['position']}"
            resumed, *received = await answer_of("GET", poll)
            assert resumed["lost"] == []
            assert received
            assert all(each["message"] == {"visit": name} for each in received)
            await call(here, "/disconnect", {"conn_id": made["conn_id"]})


async def only_go_on(stage: Stage) -> None:
    await stage.progress(3 * PROGRESS)


def _with_data(_: Path) -> Shape:
    return Shape(redis_flags=("--save", "", "--appendonly", "yes"))


def _with_a_replica(_: Path) -> Shape:
    return Shape(has_replica=True)


def _with_a_replica_and_workers(_: Path) -> Shape:
    """A node is a parent then, whose process stays."""
    return Shape(has_replica=True, flags=("--workers", "2"))


def _in_a_cluster(_: Path) -> Shape:
    return Shape(MASTERS, ("--save", "", "--cluster-require-full-coverage", "no"))


def _in_a_cluster_with_replicas(_: Path) -> Shape:
    flags = ("--save", "", "--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0")
    return Shape(MASTERS, True, (*flags, "--cluster-require-full-coverage", "no"))


def _an_hour_apart(directory: Path) -> Shape:
    """The first node's clock is right; the age limit of the log is far less than their difference."""
    environ = {
        place: shifted_clock(directory / f"clock-{place}", hours) for place, hours in ((1, 1), (2, -1))
    }
    return Shape(flags=("--validate-requests", "false", "--log-age-s", "120"), environ=environ)


SCENARIOS = {
    "killed-node": Scenario(kill_a_node, absent=6),
    "redis-with-data": Scenario(restart_redis_with_data, EVERYTHING, _with_data),
    "redis-without": Scenario(restart_redis_without_data, EVERYTHING, _with_data),
    "replica-promoted": Scenario(promote_a_replica, EVERYTHING, _with_a_replica),
    "upgrades": Scenario(upgrade_in_a_failover, EVERYTHING, _with_a_replica_and_workers),
    "old-master": Scenario(wake_an_old_master, EVERYTHING, _with_a_replica),
    "redis-stopped": Scenario(stop_redis),
    "node-cut-off": Scenario(cut_a_node_off, shape=lambda _: Shape(cut=(2,))),
    "silent": Scenario(silence_a_subscription, shape=lambda _: Shape(cut=(2,))),
    "big-messages": Scenario(miss_big_messages, shape=lambda _: Shape(cut=(2,)), more_channels=(BIG,)),
    "subscription": Scenario(overflow_a_subscription, frozenset({SHORT}), more_channels=(SHORT,)),
    "slow-node": Scenario(slow_a_node),
    "clocks": Scenario(only_go_on, shape=_an_hour_apart),
    "cluster-killed-node": Scenario(kill_a_node, shape=_in_a_cluster, absent=6),
    "cluster-lost-master": Scenario(lose_a_master, frozenset({PRIVATE, TALK}), shape=_in_a_cluster),
    "cluster-replica-promoted": Scenario(
        lose_a_master_with_a_replica, frozenset({PRIVATE, TALK}), _in_a_cluster_with_replicas
    ),
}
