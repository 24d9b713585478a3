"""The mark of options that differ from those of the last start."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.admin_pages import data
from tests.waiting import eventually

from channelstream.admin.changed_options import READ, SERIES, changed_options
from channelstream.config import Settings
from channelstream.config.app_section import AppSection
from channelstream.engines.time_series import RECORD_BYTES, LocalTimeSeries, Record

BEFORE = Settings(secret="of-before", history_size_max=10, engine="redis://:password@redis")
SHOP = AppSection("shop", {"secret": "of-shop"})


def changes(*starts: Settings) -> list[list[str]]:
    """Return the names of what each start in turn differs in from the one before it."""

    async def main() -> list[list[str]]:
        series = LocalTimeSeries()
        return [await changed_options(series, float(at_s), each) for at_s, each in enumerate(starts)]

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({}, []),
        ({"history_size_max": 20, "log_age_s": 5.0}, ["history_size_max", "log_age_s"]),
        ({"secret": "of-now"}, ["secret"]),
        ({"engine": "redis://:other@redis"}, ["engine"]),
        ({"apps": (SHOP,)}, ["apps"]),
    ],
)
def test_what_has_changed_is_named(change: dict[str, Any], names: list[str]) -> None:
    """Against the last start, and once."""
    after = replace(BEFORE, **change)
    assert changes(BEFORE, after, after) == [[], names, []]


def test_a_key_that_is_drawn_at_each_start_does_not_change() -> None:
    keys = [replace(BEFORE, cookie_secret=key) for key in ("drawn-a", "drawn-b", "own")]
    assert changes(*keys) == [[], [], ["cookie_secret"]]


def test_servers_at_other_places_are_not_compared() -> None:
    """They may share an engine, and differ."""
    other = replace(BEFORE, port=9000, history_size_max=20)
    assert changes(BEFORE, other, BEFORE) == [[], [], []]


def test_the_digests_of_secrets_do_not_add_up() -> None:
    """Those of many servers with one secret are one byte of it."""

    async def main() -> None:
        series = LocalTimeSeries()
        for port in (8000, 9000):
            await changed_options(series, 1.0, replace(BEFORE, port=port))
        one, other = await series.read(SERIES, 0.0, READ)
        at = {record.data[record.data.index(b"\xa6secret") :][:10] for record in (one, other)}
        assert len(at) == 1

    asyncio.run(main())


def test_no_value_is_kept() -> None:
    """And of a secret not more than a byte that depends on it; what a later version has written does not matter."""

    async def main() -> None:
        series = LocalTimeSeries()
        await series.append(SERIES, Record(0.0, b"later"), 10.0)
        await changed_options(series, 1.0, replace(BEFORE, apps=(SHOP,)))
        *_, record = await series.read(SERIES, 0.0, READ)
        assert not any(secret in record.data for secret in (b"of-before", b"password", b"of-shop"))
        assert len(record.data) < RECORD_BYTES / 2
        for name in (b"secret", b"engine", b"apps"):
            after = record.data[record.data.index(b"%c%b" % (0xA0 + len(name), name)) + 1 + len(name) :]
            assert after[:2] == b"\xc4\x01"  # A binary value of one byte (msgpack).

    asyncio.run(main())


def test_changed_options_are_marked(start_server: Callable[..., Any], tmp_path: Path) -> None:
    """In the history, by their names."""
    engine = ("--engine", f"sqlite:///{tmp_path / 'log.db'}")
    first = start_server(*engine)
    first.stop()
    second = start_server(*engine, "--history-size-max", "7")

    def marks() -> list[tuple[str, str]]:
        return [(mark["kind"], mark["text"]) for mark in data(second, "history")["marks"]]

    eventually(lambda: ("settings changed", "history_size_max") in marks(), "it is not marked")
    assert [kind for kind, _ in marks()] == ["start", "stop", "start", "settings changed"]
