"""The tables of what a node knows about its connections: the owner of each, and its registration in each shard."""

from itertools import product

import pytest

from channelstream.engines.redis.ownership import OWNER_TRANSITIONS, Owner, Ownership, OwnerStep
from channelstream.engines.redis.registration_index import (
    EXPECTED,
    REGISTRATION_TRANSITIONS,
    TO_RESTORE,
    Registration,
    RegistrationIndex,
    RegistrationStep,
)

HAD = (Owner.HERE, Owner.SUSPECTED)
"""States of a connection that the node has."""
STEPS = {Owner.CLAIMING: OwnerStep.CLAIM, Owner.SUSPECTED: OwnerStep.SUSPECT}


def ownership_in(owner: Owner) -> Ownership:
    """Return an ownership that knows the connection `k` in a state."""
    ownership = Ownership(2)
    ownership.local = lambda: {"k"} if owner in HAD else set()
    if owner in STEPS:
        ownership.move("k", STEPS[owner])
    assert ownership.owner("k") is owner
    return ownership


@pytest.mark.parametrize(("owner", "step"), list(product(Owner, OwnerStep)))
def test_every_step_of_an_owner_is_in_the_table(owner: Owner, step: OwnerStep) -> None:
    """The node has the connection, or has lost it, as the new state says."""
    ownership = ownership_in(owner)
    ownership.move("k", step)
    after = OWNER_TRANSITIONS[owner, step]
    ownership.local = lambda: {"k"} if after in HAD else set()
    assert ownership.owner("k") is after
    assert ownership.is_ours("k") is (after is not Owner.ELSEWHERE)


def test_an_owner_is_trusted_again_only_by_the_word_of_the_directory() -> None:
    """It confirms the registration, or has made the node the owner."""
    ways = {step for (owner, step), after in OWNER_TRANSITIONS.items() if after is Owner.HERE is not owner}
    assert ways == {OwnerStep.CONFIRM, OwnerStep.CLAIMED}


@pytest.mark.parametrize("step", list(OwnerStep))
def test_the_reservations_of_a_claim_are_kept_until_it_ends(step: OwnerStep) -> None:
    """Whatever happens to the connection meanwhile."""
    ends = step in (OwnerStep.CLAIMED, OwnerStep.FAIL_CLAIM)
    assert (OWNER_TRANSITIONS[Owner.CLAIMING, step] is not Owner.CLAIMING) is ends


def test_only_what_does_not_follow_from_the_node_is_stored() -> None:
    """A million connections that are simply here take no memory; nothing is left of one that ended."""
    for owner in Owner:
        ownership = ownership_in(owner)
        assert ownership._stored == ({"k": owner} if owner in STEPS else {})
        ownership.forget("k")
        assert ownership._stored == ({"k": owner} if owner is Owner.CLAIMING else {})


@pytest.mark.parametrize("owner", HAD)
def test_a_connection_that_has_left_the_node_is_not_kept(owner: Owner) -> None:
    """It was released to another node, and the message about the claim was lost: the reconciler has to forget it."""
    ownership = ownership_in(owner)
    ownership.local = set
    assert ownership.owner("k") is Owner.ELSEWHERE
    assert not ownership.is_ours("k")
    ownership.forget("k")
    assert ownership._stored == {}


def index_in(state: Registration) -> RegistrationIndex:
    """Return an index that knows the connection `k` in a state in shard 1, and registered in shard 0."""
    index = RegistrationIndex(2)
    index.move("k", 0, RegistrationStep.REGISTER)
    if state in EXPECTED:
        index.move("k", 1, RegistrationStep.REGISTER)
    if state in TO_RESTORE:
        index.move("k", 1, RegistrationStep.FAIL)
    assert index.state("k", 1) is state
    return index


@pytest.mark.parametrize(("state", "step"), list(product(Registration, RegistrationStep)))
def test_every_step_of_a_registration_is_in_the_table(state: Registration, step: RegistrationStep) -> None:
    """The count, the connections to restore and the other shard follow."""
    index = index_in(state)
    index.move("k", 1, step)
    after = REGISTRATION_TRANSITIONS[state, step]
    assert index.state("k", 1) is after
    assert index.counts == [1, int(after in EXPECTED)]
    assert index.unconfirmed == [set(), {"k"} if after in TO_RESTORE else set()]
    assert index.state("k", 0) is Registration.REGISTERED


@pytest.mark.parametrize("state", list(Registration))
def test_nothing_is_kept_of_a_forgotten_registration(state: Registration) -> None:
    index = index_in(state)
    index.forget("k")
    assert (index.counts, index.unconfirmed, index.shards("k")) == ([0, 0], [set(), set()], [])
    assert index.state("k", 1) is Registration.NONE


def test_a_failed_call_stays_to_be_repaired_until_it_is_settled() -> None:
    """A later success proves nothing about it: its outcome may still be another one in another step of the call."""
    for state in TO_RESTORE:
        for step in RegistrationStep:
            assert (REGISTRATION_TRANSITIONS[state, step] in TO_RESTORE) is (
                step is not RegistrationStep.SETTLE
            )
