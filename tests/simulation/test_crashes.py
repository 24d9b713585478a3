"""Plays servers that are killed at any moment; docs/proof.md says what holds after each start."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.simulation.crashes import play
from tests.simulation.drawn import drawn_seeds
from tests.simulation.failure import Failure

from channelstream.core.position import ReadRange
from channelstream.engines import group_commit, sqlite_restore
from channelstream.engines.group_commit import Batch, GroupCommit
from channelstream.engines.members import Leaving, Member
from channelstream.engines.registrations import Registrations
from channelstream.engines.sqlite import SqliteEngine
from channelstream.engines.sqlite_connections import read_subscriptions
from channelstream.engines.sqlite_restore import Restore
from channelstream.engines.sqlite_rows import Row

SEEDS = [*range(8), *drawn_seeds(8)]
TRIES = 100
"""Seeds played at most until a fault that was planted is found: seven of them or more find each."""


@pytest.mark.parametrize("seed", SEEDS)
def test_a_start_restores_what_was_acknowledged(seed: int, tmp_path: Path) -> None:
    """Connections and their channels, presence, and every message for clients that resume."""
    play(seed, tmp_path / "state.db")


@pytest.mark.parametrize("rows", [1, 3])
def test_small_batches_change_nothing(rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What must be written together is, however few rows a batch takes."""
    monkeypatch.setattr(group_commit, "BATCH_ROWS", rows)
    for seed in range(3):
        play(seed, tmp_path / f"{seed}.db")


def test_the_scripts_restore_connections(tmp_path: Path) -> None:
    """Otherwise they would show nothing."""
    assert sum(play(seed, tmp_path / f"{seed}.db") for seed in range(3)) > 20


async def without_waiting(engine: SqliteEngine, member: Member, channels: Sequence[str]) -> None:
    await engine.disconnect_all([Leaving(member, channels)])


@contextmanager
def apart(commits: GroupCommit) -> Iterator[Batch]:
    yield commits.batch()


def nothing(*_: Any) -> None:
    """Do not record a change."""


def from_now_on(rows: list[Row]) -> dict[str, dict[str, ReadRange]]:
    ranges = read_subscriptions(rows)
    return {each: dict.fromkeys(channels, ReadRange.of(1 << 30)) for each, channels in ranges.items()}


FAULTS: dict[str, tuple[object, str, object, str]] = {
    "a join is lost": (Registrations, "join", nothing, "member of"),
    "a left channel comes back": (Registrations, "leave", nothing, "member of"),
    "an ended connection comes back": (Registrations, "end", nothing, "after a restart|announced in"),
    "an end is acknowledged too early": (SqliteEngine, "disconnect", without_waiting, "after a restart"),
    "a connection is lost": (Registrations, "connect", nothing, "after a restart"),
    "a member is announced to have left": (Restore, "_is_member", lambda *_: False, "announced in"),
    "a join is not written with its announcement": (GroupCommit, "together", apart, "announced in|twice"),
    "the read range is lost": (sqlite_restore, "read_subscriptions", from_now_on, "received in"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each within its first seeds, mostly by the first one."""
    where, name, planted, found = FAULTS[fault]
    monkeypatch.setattr(where, name, planted)
    monkeypatch.setattr(group_commit, "BATCH_ROWS", 1)
    with pytest.raises(Failure, match=found):
        for seed in range(TRIES):
            play(seed, tmp_path / f"{seed}.db")
