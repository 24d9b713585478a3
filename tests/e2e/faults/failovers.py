"""Failovers of a Redis with a replica, which sentinels promote."""

import asyncio
import signal
from functools import partial

from tests.e2e.faults.cluster import Node
from tests.e2e.faults.stage import Stage
from tests.nursery import nursery
from tests.redis_server import RedisServer
from tests.waiting import PATIENCE_S, soon

UPGRADE_PATIENCE_S = 5 * PATIENCE_S
"""For the upgrade of a node: it starts an interpreter, and may fail after its longest time before a later one succeeds."""
UPGRADING_S = 2.0
"""Less than the upgrades of two workers take, so that the master dies in any of their steps."""


async def promote_a_replica(stage: Stage) -> None:
    """The master dies, and its replica lacks what was acknowledged last."""
    master, replica = stage.cluster.servers
    await stage.progress()
    replica.cli("CONFIG", "SET", "masterauth", "no longer its password")
    master.cli("CLIENT", "KILL", "TYPE", "replica")
    await stage.progress()
    assert "master_link_status:down" in replica.cli("INFO", "replication")
    master.kill()
    await _replaced(stage, replica)


async def wake_an_old_master(stage: Stage) -> None:
    """The master is stopped until its replica has taken its place, and then executes what it was sent before."""
    master, replica = stage.cluster.servers
    await stage.progress()
    master.signal(signal.SIGSTOP)
    try:
        await stage.until("its replica takes its place", lambda: "role:master" in replication_of(replica))
    finally:
        master.signal(signal.SIGCONT)
    await _replaced(stage, replica)
    await stage.until("it becomes a replica", lambda: "master_link_status:up" in replication_of(master))
    await stage.progress()


async def upgrade_in_a_failover(stage: Stage) -> None:
    """The master dies while all nodes are upgraded: each upgrade succeeds or is refused, and a later one succeeds."""
    master, replica = stage.cluster.servers
    await stage.progress()
    async with asyncio.TaskGroup() as group:
        for node in stage.cluster.nodes:
            group.create_task(_is_upgraded(node))
        await asyncio.sleep(stage.random.uniform(0.0, UPGRADING_S))  # real time: the upgrades.
        master.kill()
        await _replaced(stage, replica)
    async with asyncio.TaskGroup() as group:
        # All at once: on a busy machine each new process has a share of the processor.
        for node in stage.cluster.nodes:
            group.create_task(soon(partial(_is_upgraded, node), "no upgrade succeeds", UPGRADE_PATIENCE_S))
    await stage.progress()


async def _is_upgraded(node: Node) -> bool:
    command = ["upgrade", "-p", str(node.port)]
    ended = await asyncio.to_thread(nursery().run, command, {}, patience_s=UPGRADE_PATIENCE_S)
    assert ended.returncode == 0 or "goes on as before" in ended.stderr, ended.stderr
    return ended.returncode == 0


async def _replaced(stage: Stage, replica: RedisServer) -> None:
    """Wait until a replica is the master, and all clients are sent that all is lost."""
    await stage.until("the replica is promoted", lambda: "role:master" in replication_of(replica))
    await stage.all_lost()


def replication_of(redis: RedisServer) -> str:
    return redis.cli("INFO", "replication")
