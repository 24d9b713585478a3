"""Which shards should count which connections of a node."""

from channelstream.engines.redis.stakes import Stakes


def test_a_shard_counts_a_connection_once() -> None:
    """However often it is said; and no longer when it is said to have gone."""
    stakes = Stakes(3)
    for shard in (0, 2, 2):
        stakes.add("ann", shard)
    stakes.add("bob", 2)
    assert (stakes.counts, stakes.of(0), stakes.of(2)) == ([1, 0, 2], {"ann"}, {"ann", "bob"})
    stakes.discard("ann", 2)
    stakes.discard("ann", 1)
    assert (stakes.counts, stakes.of(2)) == ([1, 0, 1], {"bob"})
    stakes.discard("ann", 0)
    stakes.forget("bob")
    stakes.forget("unknown")
    assert (stakes.counts, stakes.of(2)) == ([0, 0, 0], set())


def test_what_is_no_longer_held_is_forgotten() -> None:
    """Whoever is held and has no stake yet is still on its way."""
    stakes = Stakes(2)
    stakes.add("ann", 0)
    stakes.add("bob", 1)
    stakes.keep_only(["bob"])
    assert (stakes.counts, stakes.of(0), stakes.of(1)) == ([0, 1], set(), {"bob"})
    stakes.keep_only(["bob", "new"])
    assert stakes.counts == [0, 1]
