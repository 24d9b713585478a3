"""Three nodes on one Redis under load, clients on all transports: what breaks, and what all clients receive nevertheless."""

from pathlib import Path

import pytest
from tests.e2e.faults.cluster import LEASE_S
from tests.e2e.faults.play import Outcome, play
from tests.e2e.faults.scenarios import EVERYTHING, REFUSED, SHORT, TALK
from tests.e2e.faults.stage import PROGRESS
from tests.e2e.faults.truth import PRIVATE

OUTAGE_S = 1.25 * LEASE_S
"""Long enough for leases to end; `make faults` plays outages of 20 s."""

pytestmark = pytest.mark.slow


NOTHING: frozenset[str] = frozenset()


def has_load(outcome: Outcome) -> bool:
    """Whether the load was enough to lose something: clients are in two channels at least, so more arrives than is sent."""
    return outcome.figures.sent >= 2 * PROGRESS and outcome.figures.received > outcome.figures.sent


def test_a_killed_node(tmp_path: Path) -> None:
    """Its clients resume elsewhere and miss nothing; only users that do not reconnect leave, once, after the lease."""
    outcome = play("killed-node", tmp_path, with_delays=True)
    assert (outcome.lost, has_load(outcome)) == (NOTHING, True)
    assert outcome.figures.ended > 0
    assert outcome.figures.delay_max_ms >= outcome.figures.others_max_ms > 0.0


def test_a_redis_restarted_with_its_data_loses_all_positions(tmp_path: Path) -> None:
    """Messages are refused meanwhile; every client is sent that all is lost, and then receives everything."""
    outcome = play("redis-with-data", tmp_path)
    assert (outcome.lost, has_load(outcome)) == (EVERYTHING, True)
    assert outcome.figures.refused >= REFUSED


def test_a_redis_restarted_without_its_data_loses_all_positions(tmp_path: Path) -> None:
    """The same; open connections are registered again."""
    outcome = play("redis-without", tmp_path)
    assert (outcome.lost, has_load(outcome)) == (EVERYTHING, True)
    assert outcome.figures.refused >= REFUSED


def test_a_promoted_replica_loses_all_positions(tmp_path: Path) -> None:
    """It lacks what was acknowledged last: no client reads on as if nothing were missing."""
    outcome = play("replica-promoted", tmp_path)
    assert (outcome.lost, has_load(outcome)) == (EVERYTHING, True)


def test_upgrades_in_a_failover(tmp_path: Path) -> None:
    """No stream that moves meanwhile reads on as if nothing were missing."""
    outcome = play("upgrades", tmp_path)
    assert (outcome.lost, has_load(outcome)) == (EVERYTHING, True)


def test_an_old_master_wakes_up(tmp_path: Path) -> None:
    """What it was sent before it was stopped reaches nobody, and the nodes stay with its replica."""
    outcome = play("old-master", tmp_path)
    assert (outcome.lost, has_load(outcome)) == (EVERYTHING, True)


def test_a_stopped_redis_loses_nothing(tmp_path: Path) -> None:
    """Messages are refused meanwhile, open streams stay open, and nothing is lost."""
    outcome = play("redis-stopped", tmp_path, OUTAGE_S)
    assert (outcome.lost, has_load(outcome)) == (NOTHING, True)
    assert outcome.figures.refused >= REFUSED


def test_a_node_that_is_cut_off_loses_nothing(tmp_path: Path) -> None:
    """It refuses messages, its streams stay open, and nothing is lost at any node."""
    outcome = play("node-cut-off", tmp_path, OUTAGE_S)
    assert (outcome.lost, has_load(outcome)) == (NOTHING, True)
    assert outcome.figures.refused >= REFUSED


def test_a_node_misses_big_messages(tmp_path: Path) -> None:
    """It catches up however many bytes it has to read; nothing is lost, and messages are refused only meanwhile."""
    outcome = play("big-messages", tmp_path)
    assert (outcome.lost, has_load(outcome)) == (NOTHING, True)


def test_a_dropped_subscription_loses_only_the_trimmed_channel(tmp_path: Path) -> None:
    """Entries in the log arrive late and in order; the channel whose log is too short is reported lost, and no other."""
    outcome = play("subscription", tmp_path)
    assert (outcome.lost, has_load(outcome)) == ({SHORT}, True)


def test_a_killed_node_of_a_cluster(tmp_path: Path) -> None:
    """The same as for one Redis where the log is in three shards, each in another master of a Redis cluster."""
    outcome = play("cluster-killed-node", tmp_path)
    assert (outcome.lost, has_load(outcome)) == (NOTHING, True)
    assert outcome.figures.ended > 0


def test_a_lost_master_of_a_cluster(tmp_path: Path) -> None:
    """Calls that need it are refused, and its channels are reported lost; the others continue, and lose nothing."""
    outcome = play("cluster-lost-master", tmp_path)
    assert outcome.lost <= {PRIVATE, TALK}
    assert TALK in outcome.lost
    assert has_load(outcome)
    assert outcome.figures.refused >= REFUSED


def test_a_promoted_replica_of_a_cluster(tmp_path: Path) -> None:
    """Its channels are reported lost; the others continue, and lose nothing."""
    outcome = play("cluster-replica-promoted", tmp_path)
    assert outcome.lost <= {PRIVATE, TALK}
    assert TALK in outcome.lost
    assert has_load(outcome)


def test_a_slow_node(tmp_path: Path) -> None:
    """A node that gets a fifth of its time loses and doubles nothing."""
    outcome = play("slow-node", tmp_path)
    assert (outcome.lost, has_load(outcome)) == (NOTHING, True)


def test_clocks_an_hour_apart(tmp_path: Path) -> None:
    """No node is taken for dead, no entry for expired, and nothing is lost."""
    outcome = play("clocks", tmp_path)
    assert (outcome.lost, has_load(outcome)) == (NOTHING, True)
    assert outcome.figures.reconnected == 0
