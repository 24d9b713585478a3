"""Where the shards of a log lie."""

import pytest
from redis.crc import key_slot

from channelstream.core.position import MAX_SHARDS
from channelstream.engines.redis.address import SLOTS, prefixes, shard_addresses
from channelstream.errors import ConfigError

PASSWORD = "hunter2"
ENCODE = "in a password write %2F for /"


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
    assert len(shard_addresses("redis+cluster://a:1,b:2?shards=5")) == 5
    assert [place.in_cluster for place in shard_addresses("redis+cluster://a:1,b:2")] == [True] * 3
    assert [(place.prefix, place.in_cluster) for place in shard_addresses("redis://a:1/0")] == [
        (prefixes(1)[0], False)
    ]


@pytest.mark.parametrize("query", ["shards=0", "shards=17", "shards=x", "shards=", "shards", "shard=3"])
def test_a_number_of_shards_that_cannot_be_is_refused(query: str) -> None:
    """With a sentence that names option and range."""
    with pytest.raises(ConfigError, match=r"^engine: "):
        shard_addresses(f"redis+cluster://a:1?{query}")


@pytest.mark.parametrize(
    ("address", "where"),
    [
        ("redis://10.0.0.5/3", {"host": "10.0.0.5", "port": 6379, "db": 3}),
        ("redis://ann:s%40%2F@10.0.0.5:7000", {"port": 7000, "db": 0, "username": "ann", "password": "s@/"}),
        ("rediss://10.0.0.5", {"host": "10.0.0.5", "port": 6379}),
        ("unix:///run/redis.sock?db=2", {"path": "/run/redis.sock", "db": 2}),
        ("unix://:s%40@/run/redis.sock", {"path": "/run/redis.sock", "password": "s@"}),
        ("redis+sentinel://h:1,[::1]:2/main/4", {"db": 4, "password": None}),
        ("redis+cluster://[::1]:7000,[::2]:7001", {"host": "::1", "port": 7000}),
        ("redis+sentinel://ann:s%40@h:1/main", {"db": 0, "username": "ann", "password": "s@"}),
        ("redis+cluster://:s%40@h:1,h:2", {"db": 0, "username": None, "password": "s@"}),
    ],
)
def test_an_address_has_host_and_credentials(address: str, where: dict[str, object]) -> None:
    """Every form has user, password and, but for a cluster, a database; special characters are percent-encoded."""
    connection = shard_addresses(address)[0].connect()
    assert {name: getattr(connection, name) for name in where} == where


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("redis://:hunter2/x@host:6379/0", "the number of the database is no number"),
        ("redis://:hunter2@host:port/0", ENCODE),
        ("redis://:x@host:hunter2", ENCODE),
        ("redis://:hunter2@host:99999/0", ENCODE),
        ("redis://:hunter2@[::1/0", ENCODE),
        ("redis://:hunter2@host/first", "the number of the database is no number"),
        ("redis://:hunter2@host/0?colour=red", ENCODE),
        ("redis://:hunter2@host/0?socket_timeout=soon", ENCODE),
        ("unix://:hunter2@relative/path", "a socket has an absolute path"),
        ("unix://", "a socket has an absolute path"),
        ("redis+sentinel://:hunter2@host:26379", "the name of their master is missing"),
        ("redis+sentinel://:hunter2@host/main/0", "each member is written host:port"),
        ("redis+sentinel://:hunter2@host:1,/main/0", "each member is written host:port"),
        ("redis+sentinel://:hunter2/x@host:1/main/0", ENCODE),
        ("redis+sentinel://:hunter2@host:1/main/first", "the number of the database is no number"),
        ("redis+cluster://:hunter2@host:1,[::1:7000", "each member is written host:port"),
        ("redis+cluster://:hunter2@host", "each member is written host:port"),
        ("redis+cluster://:hunter2@host:99999", "each member is written host:port"),
        ("redis+cluster://:hunter2/x@host:1", ENCODE),
        ("redis+cluster://host:1?hunter2=3", "a cluster has the option shards and no other"),
    ],
)
def test_a_mistake_is_named_and_the_password_is_not(address: str, reason: str) -> None:
    """At the start, in one sentence that names the option; where its slash was not encoded, a password looks like a port."""
    with pytest.raises(ConfigError) as caught:
        shard_addresses(address)
    assert str(caught.value).startswith("engine: ")
    assert reason in str(caught.value)
    cause = caught.value.__cause__ or (
        None if caught.value.__suppress_context__ else caught.value.__context__
    )
    assert PASSWORD not in f"{caught.value} {cause}"


@pytest.mark.parametrize("address", ["redis://a:1/0", "redis+cluster://a:1", "redis+sentinel://a:1/main/0"])
def test_a_connection_is_made_without_reading_files(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """redis-py would look for its own version in the metadata of its package, which takes longer than to connect."""

    def look() -> str:
        raise AssertionError("a file is read")

    (shard, *_) = shard_addresses(address)
    monkeypatch.setattr("redis.utils.get_lib_version", look)
    assert shard.connect().driver_info.lib_version
