"""What every `Cluster` must do, also that of an engine of one process (`SingleNode`).

What nodes owe each other is in `nodes.py`, for engines that several can share.
"""

import pytest
from tests.engines.conformance.lab import Lab, at_once


def test_the_nodes_are_those_that_share_the_log(lab: Lab) -> None:
    """This one; none where the log cannot be shared."""
    living = [node.is_alive for node in lab.run(lab.engine.cluster.nodes())]
    assert living == ([] if lab.engine.cluster.is_single else [True])


def test_a_registered_connection_is_owned_here(lab: Lab) -> None:
    """Also after its ownership was confirmed, which changes nothing."""
    lab.connect("ann", "a")
    assert lab.engine.cluster.owns("of-ann")
    lab.run(lab.engine.cluster.confirm_ownership("of-ann"))
    assert lab.engine.cluster.owns("of-ann")
    assert list(lab.recorder.members) == ["of-ann"]
    assert (lab.channel("a").users, lab.user("ann").connections) == ({"ann": 1}, 1)


def test_a_command_about_an_unknown_connection_has_no_answer(lab: Lab) -> None:
    assert lab.run(lab.engine.cluster.ask("nobody", b"stop")) is None


@pytest.mark.parametrize("orphan", [False, True])
def test_an_unknown_connection_is_not_claimed(lab: Lab, orphan: bool) -> None:
    assert lab.run(lab.engine.cluster.claim("nobody", orphan, at_once)) is None


def test_an_ended_connection_is_unknown(lab: Lab) -> None:
    """To commands and to claims."""
    lab.disconnect(lab.connect("ann", "a"), "a")
    assert lab.run(lab.engine.cluster.ask("of-ann", b"stop")) is None
    assert lab.run(lab.engine.cluster.claim("of-ann", False, at_once)) is None


def test_members_elsewhere_are_never_invented(lab: Lab) -> None:
    """This node's own connections may be among them, in the channels that they are in."""
    lab.connect("ann", "a", "b")
    lab.leave(lab.connect("bob", "a", "b"), "b")
    assert lab.run(lab.engine.cluster.members("a")).items() <= {"of-ann": "ann", "of-bob": "bob"}.items()
    assert lab.run(lab.engine.cluster.members("b")).items() <= {"of-ann": "ann"}.items()
    assert lab.run(lab.engine.cluster.members("unknown")) == {}


def test_a_command_to_an_unknown_node_has_no_answer(lab: Lab) -> None:
    assert lab.run(lab.engine.cluster.ask_node("nobody", b"stop")) is None


def test_a_node_knows_its_id_among_all_nodes(lab: Lab) -> None:
    """Empty where there can be no other."""
    cluster = lab.engine.cluster
    assert [node.id for node in lab.run(cluster.nodes())] == ([] if cluster.is_single else [cluster.node_id])
    assert bool(cluster.node_id) is not cluster.is_single


def test_a_text_that_is_new_is_used(lab: Lab) -> None:
    """Here at least; another one too."""
    cluster = lab.engine.cluster
    assert [lab.run(cluster.use_once(text, 60.0)) for text in ("one", "two")] == [True, True]
