"""Where the shards of a log lie."""

import pytest
from redis.crc import key_slot

from channelstream.core.position import MAX_SHARDS
from channelstream.engines.redis.address import SLOTS, places, prefixes
from channelstream.errors import ConfigError


@pytest.mark.parametrize("shards", range(1, MAX_SHARDS + 1))
def test_shards_lie_in_equal_parts_of_a_cluster(shards: int) -> None:
    """One in each, so that as many masters have one each; the first is always the same."""
    found = prefixes(shards)
    assert {min(key_slot(each.encode()) * shards // SLOTS, shards - 1) for each in found} == set(
        range(shards)
    )
    assert found[0] == "{channelstream}:"


def test_a_cluster_has_as_many_shards_as_its_address_says() -> None:
    """Three where it says nothing; any other Redis has one."""
    assert len(places("redis+cluster://a:1,b:2?shards=5")) == 5
    assert [place.in_cluster for place in places("redis+cluster://a:1,b:2")] == [True] * 3
    assert [(place.prefix, place.in_cluster) for place in places("redis://a:1/0")] == [
        (prefixes(1)[0], False)
    ]


@pytest.mark.parametrize("query", ["shards=0", "shards=17", "shards=x", "shards=", "shards", "shard=3"])
def test_a_number_of_shards_that_cannot_be_is_refused(query: str) -> None:
    """With a sentence that names option and range."""
    with pytest.raises(ConfigError, match=r"^engine: "):
        places(f"redis+cluster://a:1?{query}")
