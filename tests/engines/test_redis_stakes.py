"""Which shards should count which connections of a node."""

from channelstream.engines.redis.registration_index import AT_ONCE, RegistrationIndex


def of(stakes: RegistrationIndex, shard: int) -> list[str]:
    return [conn_id for some in stakes.of(shard) for conn_id in some]


def test_a_shard_counts_a_connection_once() -> None:
    """However often it is said; and no longer when it is said to have gone."""
    stakes = RegistrationIndex(3)
    for shard in (0, 2, 2):
        stakes.add("ann", shard)
    stakes.add("bob", 2)
    assert (stakes.counts, of(stakes, 0), of(stakes, 2)) == ([1, 0, 2], ["ann"], ["ann", "bob"])
    stakes.discard("ann", 2)
    stakes.discard("ann", 1)
    assert (stakes.counts, of(stakes, 2)) == ([1, 0, 1], ["bob"])
    stakes.discard("ann", 0)
    assert (stakes.shards("bob"), stakes.shards("unknown")) == ([2], [])
    stakes.forget("bob")
    stakes.forget("unknown")
    assert (stakes.counts, of(stakes, 2)) == ([0, 0, 0], [])


def test_many_are_looked_at_a_few_at_a_time() -> None:
    """So that other work has its turn in between; what is forgotten meanwhile is not among them."""
    stakes = RegistrationIndex(2)
    for number in range(2 * AT_ONCE + 1):
        stakes.add(f"k{number}", 0)
    looks = stakes.of(0)
    assert len(next(looks)) == AT_ONCE
    stakes.forget(f"k{AT_ONCE}")
    assert [len(some) for some in looks] == [AT_ONCE - 1, 1]


def test_who_is_held_and_has_no_stake_shows() -> None:
    """It may be on its way, or another one has gone."""
    stakes = RegistrationIndex(2)
    stakes.add("ann", 0)
    assert not stakes.has_stale(["ann"])
    assert stakes.has_stale(["ann", "new"])
    assert (stakes.has("ann", 0), stakes.has("ann", 1), stakes.has("bob", 0)) == (True, False, False)
