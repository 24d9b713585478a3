"""Three nodes on one Redis under load, clients on all transports: what breaks, and what everybody hears all the same."""

from pathlib import Path

import pytest
from tests.e2e.faults.cluster import LEASE_S
from tests.e2e.faults.play import play

OUTAGE_S = 1.5 * LEASE_S
"""Long enough for leases to end; `make faults` plays outages of 20 s."""

pytestmark = pytest.mark.slow


def test_a_killed_node(tmp_path: Path) -> None:
    """Its clients resume elsewhere and miss nothing; only who does not come back has parted, once, after the lease."""
    play("killed-node", tmp_path)


def test_redis_restarted_with_its_data(tmp_path: Path) -> None:
    """Messages are refused meanwhile; every client is told that all is lost, and then hears everything."""
    play("redis-with-data", tmp_path)


def test_redis_restarted_without_its_data(tmp_path: Path) -> None:
    """The same; who was connected is counted anew."""
    play("redis-without", tmp_path)


def test_redis_stands_still(tmp_path: Path) -> None:
    """Messages are refused meanwhile, open streams stay open, and nothing is lost."""
    play("redis-stopped", tmp_path, OUTAGE_S)


def test_a_node_is_cut_off(tmp_path: Path) -> None:
    """It refuses messages, its streams stay open, and nothing is lost at any node."""
    play("node-cut-off", tmp_path, OUTAGE_S)


def test_redis_drops_a_subscription(tmp_path: Path) -> None:
    """What the log holds is heard late and in order; the channel whose log is too short is told lost, and no other."""
    play("subscription", tmp_path)


def test_a_killed_node_of_a_cluster(tmp_path: Path) -> None:
    """The same where the log is in three shards, each in another master of a Redis cluster."""
    play("cluster-killed-node", tmp_path)


def test_a_lost_master_of_a_cluster(tmp_path: Path) -> None:
    """What needs it is refused, and what it held is told lost; the other channels go on, and lose nothing."""
    play("cluster-lost-master", tmp_path)


def test_a_slow_node(tmp_path: Path) -> None:
    """A node that gets a fifth of its time loses and doubles nothing."""
    play("slow-node", tmp_path)


def test_clocks_an_hour_apart(tmp_path: Path) -> None:
    """Nobody is taken for dead, nothing in the log for old, and nothing is lost."""
    play("clocks", tmp_path)
