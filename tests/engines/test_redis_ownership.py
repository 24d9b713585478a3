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

NO_TRANSITION = {
    (Owner.CLAIMING, OwnerStep.CLAIM),
    (Owner.HERE, OwnerStep.CLAIM),
    (Owner.SUSPECTED, OwnerStep.CLAIM),
    (Owner.ELSEWHERE, OwnerStep.END_CLAIM),
    (Owner.HERE, OwnerStep.END_CLAIM),
    (Owner.SUSPECTED, OwnerStep.END_CLAIM),
}


def ownership_in(owner: Owner) -> Ownership:
    """Return an ownership that knows the connection `k` in a state."""
    ownership = Ownership(2)
    local = {"k"} if owner in (Owner.HERE, Owner.SUSPECTED) else set()
    ownership.local = lambda: local
    steps = {Owner.CLAIMING: OwnerStep.CLAIM, Owner.SUSPECTED: OwnerStep.SUSPECT}
    if owner in steps:
        ownership.move("k", steps[owner])
    assert ownership.owner("k") is owner
    return ownership


@pytest.mark.parametrize(("owner", "step"), list(product(Owner, OwnerStep)))
def test_every_step_of_an_owner_is_in_the_table_or_a_bug(owner: Owner, step: OwnerStep) -> None:
    """Where the node does not have the connection any more, it is elsewhere."""
    ownership = ownership_in(owner)
    if (owner, step) in NO_TRANSITION:
        with pytest.raises(KeyError):
            ownership.move("k", step)
        assert ownership.owner("k") is owner
        return
    ownership.move("k", step)
    if step is OwnerStep.FORGET:
        ownership.local = frozenset
    assert ownership.owner("k") is OWNER_TRANSITIONS[owner, step]
    assert ownership.is_ours("k") is (OWNER_TRANSITIONS[owner, step] is not Owner.ELSEWHERE)


def test_an_owner_is_trusted_again_only_when_the_directory_confirms_it() -> None:
    """No other step leads from suspected to here."""
    ways = {step for (owner, step), after in OWNER_TRANSITIONS.items() if after is Owner.HERE}
    assert ways == {OwnerStep.CONFIRM}
    assert {owner for (owner, _), after in OWNER_TRANSITIONS.items() if after is Owner.SUSPECTED} == {
        Owner.HERE,
        Owner.SUSPECTED,
    }


def test_only_what_is_suspected_or_being_claimed_is_stored() -> None:
    """A million connections that are simply here take no memory; nothing is left of one that ended."""
    for owner in Owner:
        ownership = ownership_in(owner)
        ownership.forget("k")
        assert ownership._stored == ({"k": Owner.CLAIMING} if owner is Owner.CLAIMING else {})
        assert ownership.suspected() == []
    assert ownership_in(Owner.SUSPECTED).suspected() == ["k"]
    assert ownership_in(Owner.HERE)._stored == {}


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
