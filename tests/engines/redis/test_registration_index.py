"""Which shards should count which connections of a node."""

from channelstream.engines.redis.registration_index import BATCH, RegistrationIndex, RegistrationStep


def of(index: RegistrationIndex, shard: int) -> list[str]:
    return [conn_id for some in index.batches_in(shard) for conn_id in some]


def test_a_shard_counts_a_connection_once() -> None:
    """However often it is added; and not after it was discarded."""
    index = RegistrationIndex(3)
    for shard in (0, 2, 2):
        index.move("ann", shard, RegistrationStep.REGISTER)
    index.move("bob", 2, RegistrationStep.REGISTER)
    assert (index.counts, of(index, 0), of(index, 2)) == ([1, 0, 2], ["ann"], ["ann", "bob"])
    index.move("ann", 2, RegistrationStep.UNREGISTER)
    index.move("ann", 1, RegistrationStep.UNREGISTER)
    assert (index.counts, of(index, 2)) == ([1, 0, 1], ["bob"])
    index.move("ann", 0, RegistrationStep.UNREGISTER)
    assert (index.shards("bob"), index.shards("unknown")) == ([2], [])
    index.forget("bob")
    index.forget("unknown")
    assert (index.counts, of(index, 2)) == ([0, 0, 0], [])


def test_many_connections_are_examined_in_batches() -> None:
    """So that other tasks run in between; a connection forgotten meanwhile is left out."""
    index = RegistrationIndex(2)
    for number in range(2 * BATCH + 1):
        index.move(f"k{number}", 0, RegistrationStep.REGISTER)
    looks = index.batches_in(0)
    assert len(next(looks)) == BATCH
    index.forget(f"k{BATCH}")
    assert [len(some) for some in looks] == [BATCH - 1, 1]


def test_a_local_connection_that_is_not_registered_is_found() -> None:
    """Its registration may be under way, or a stale one may remain."""
    index = RegistrationIndex(2)
    index.move("ann", 0, RegistrationStep.REGISTER)
    assert not index.has_stale(["ann"])
    assert index.has_stale(["ann", "new"])
    assert (index.has("ann", 0), index.has("ann", 1), index.has("bob", 0)) == (True, False, False)
