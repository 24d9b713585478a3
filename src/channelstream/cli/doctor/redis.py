"""Checks of Redis: what docs/engines.md asks of it. Of a cluster, the master of each shard is asked."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError, ResponseError

from channelstream.cli.doctor.finding import Finding, Subject, fault, warning
from channelstream.engines.factory import REDIS, kind_of
from channelstream.engines.redis.address import ShardAddress, shard_addresses
from channelstream.engines.redis.servers import info_fields, send
from channelstream.errors import ConfigError

OLDEST = (6, 2)
FULL_COVERAGE = "cluster-require-full-coverage"
PUBSUB_BYTES = 32 << 20
"""Redis's own hard limit of what waits for a subscriber; a node that is paused for a moment needs it."""
SETTINGS = ("save", "client-output-buffer-limit", "min-replicas-to-write", FULL_COVERAGE)
PAGE = "see docs/engines.md, Setting up Redis"


def uses_redis(subject: Subject) -> bool:
    return kind_of(subject.settings.engine) is REDIS


@dataclass(frozen=True, slots=True)
class Report:
    """What a Redis says about itself.

    Attributes:
        info: the fields of INFO.
        config: what could be read of its configuration; a hosted Redis refuses it.
    """

    info: dict[str, str]
    config: dict[str, str]


async def redis(subject: Subject) -> Iterable[Finding]:
    """Ask each shard, and report what is wrong there. An error repeats nothing of the address: it may have a password."""
    try:
        shards = shard_addresses(subject.settings.engine)
    except ConfigError as error:
        return [fault(str(error), "correct the option engine")]
    try:
        reports = [await _report(shard) for shard in shards]
    except (RedisError, OSError) as error:
        return [fault(f"Redis cannot be used: {_reason(error)}", "start it, or correct the option engine")]
    # Shards may be alike: each finding is reported once.
    return list(
        dict.fromkeys(
            finding for report in reports for finding in findings(report, subject.settings.max_body_bytes)
        )
    )


def _reason(error: Exception) -> str:
    return re.sub(r"//[^ ]*@", "//***@", str(error)) or type(error).__name__


async def _report(address: ShardAddress) -> Report:
    connection = address.connect()
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
        info = info_fields(await _ask(connection, "INFO"))
        return Report(info, await _config(connection))
    finally:
        await connection.disconnect()


async def _config(connection: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in SETTINGS:
        try:
            found |= _pairs(await _ask(connection, "CONFIG", "GET", name))
        except ResponseError:
            return {}
    return found


def _pairs(answer: list[bytes]) -> dict[str, str]:
    texts = [part.decode() for part in answer]
    return dict(zip(texts[::2], texts[1::2], strict=True))


async def _ask(connection: Any, *command: str) -> Any:
    await send(connection, connection.pack_command(*command))
    return await connection.read_response(disable_decoding=True)


def findings(report: Report, max_body_bytes: int) -> Iterator[Finding]:
    yield from _version(report.info)
    yield from _policy(report.info)
    yield from _writes(report.info)
    if report.config:
        yield from _persistence(report)
        yield from _replicas(report)
        yield from _coverage(report)
        yield from _buffers(report.config, max_body_bytes)
    else:
        yield warning("Redis does not let its configuration be read", f"compare it by hand: {PAGE}")


def _version(info: dict[str, str]) -> Iterator[Finding]:
    version = info.get("redis_version", "0")
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST:
        yield fault(f"Redis has version {version}", "use 6.2 or newer, or Valkey")


def _policy(info: dict[str, str]) -> Iterator[Finding]:
    policy = info.get("maxmemory_policy", "")
    if policy != "noeviction":
        yield fault(
            f"maxmemory-policy is {policy}: Redis deletes keys when it is full, and channels lose data",
            "set maxmemory-policy noeviction",
        )


def _writes(info: dict[str, str]) -> Iterator[Finding]:
    if info.get("role") != "master":
        yield fault("this Redis is a replica, which takes no writes", "name the master in the option engine")
    if "err" in (info.get("rdb_last_bgsave_status"), info.get("aof_last_write_status")):
        yield fault(
            "Redis cannot write its data to the disk, and so may refuse writes", "read the log of Redis"
        )


def _persistence(report: Report) -> Iterator[Finding]:
    if report.info.get("aof_enabled") == "0" and not report.config.get("save"):
        yield warning(
            "Redis keeps nothing on a disk: its restart loses users, states, settings and histories",
            "set appendonly yes, or save",
        )


def _replicas(report: Report) -> Iterator[Finding]:
    if report.info.get("connected_slaves", "0") != "0" and report.config.get("min-replicas-to-write") == "0":
        yield warning(
            "a master that is cut off from its replicas accepts writes that the replica in its place lacks",
            "set min-replicas-to-write 1",
        )


def _coverage(report: Report) -> Iterator[Finding]:
    if report.info.get("cluster_enabled") == "1" and report.config.get(FULL_COVERAGE) == "yes":
        yield warning(
            f"{FULL_COVERAGE} is yes: when one master is down, all others refuse calls, too",
            f"set {FULL_COVERAGE} no",
        )


def _buffers(config: dict[str, str], max_body_bytes: int) -> Iterator[Finding]:
    found = re.search(r"pubsub (\d+)", config.get("client-output-buffer-limit", ""))
    hard = int(found[1]) if found else 0
    if 0 < hard < max(PUBSUB_BYTES, 2 * max_body_bytes):
        yield warning(
            f"client-output-buffer-limit pubsub is {hard} bytes: a short pause makes Redis drop the subscription of a node",
            f"set client-output-buffer-limit pubsub {max(PUBSUB_BYTES, 2 * max_body_bytes)} 8388608 60",
        )
