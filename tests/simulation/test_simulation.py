"""Plays seeds through the simulator; docs/proof.md says what holds after each step and how a seed is replayed."""

import gc
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.simulation.drawn import drawn_seeds
from tests.simulation.failure import Failure
from tests.simulation.planted import first_failure
from tests.simulation.playing import simulate
from tests.simulation.report import Play, run_seed
from tests.simulation.script import CROWDED, Step, make_script
from tests.simulation.shrinking import shrink
from tests.simulation.simulation import CLIENTS
from tests.simulation.steps import BOUND_S

from channelstream.core.changes import Changes
from channelstream.core.moment import Moment
from channelstream.core.position import ReadRange
from channelstream.core.registry import Forgotten
from channelstream.engines.local_log import LocalLog
from channelstream.engines.members import Member
from channelstream.pacing import FlushPacer
from channelstream.service import Node
from channelstream.service.local import LocalConnections
from channelstream.service.locks import Locks

ROOT = Path(__file__).parents[2]
FIXED = [
    5,
    13,
    33,
    49,
    62,
    64,
    65,
    78,
    87,
    109,
    211,
    303,
    309,
    527,
    528,
    592,
    69301747,
    216907112,
    361583515,
    456595409,
    706859059,
    758590187,
    779985194,
    785007590,
    917136756,
    983567282,
]
"""Seeds that found something once."""
RANDOM = 12
"""Seeds drawn for each commit, so that it is tried where none was before; its runs are alike."""


@pytest.mark.slow
@pytest.mark.parametrize("seed", FIXED)
def test_seeds_that_found_something(seed: int) -> None:
    """All promises hold for seeds that once broke one."""
    run_seed(seed)


@pytest.mark.slow
def test_random_seeds() -> None:
    """All promises hold whatever happens; a failure names its seed."""
    received = sum(map(run_seed, drawn_seeds(RANDOM)))
    assert received > RANDOM  # Else nothing was simulated.


@pytest.mark.parametrize("seed", range(8))
def test_many_come_and_go_at_once(seed: int) -> None:
    """Disconnects, ends and reconnects between the turns in which they are unregistered."""
    assert simulate(seed, make_script(seed, CLIENTS, weights=CROWDED)).delivered


PRINT_RUNS = """
from tests.simulation.script import CROWDED, WEIGHTS, make_script
from tests.simulation.planted import first_failure
from tests.simulation.playing import simulate
from tests.simulation.simulation import CLIENTS

for seed in (1, 8, 12):
    print(simulate(seed, make_script(seed, CLIENTS)))
"""


def runs(hash_seed: str) -> "subprocess.Popen[str]":
    """Play seeds in their own process, where sets of strings have this order, and print the outcomes."""
    command = [sys.executable, "-c", PRINT_RUNS]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_run_depends_on_nothing_but_its_seed() -> None:
    """The same seed is the same run in every process: every byte is written to the same client in the same order."""
    one, other = [process.communicate()[0] for process in [runs("0"), runs("1")]]
    assert one == other
    assert one.count("delivered=") == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "fault"),
    [
        ("channelstream.core.registry_logs.RegistryLogs.compact", lambda _registry, entry: entry),
        ("channelstream.core.rounds.Rounds._waiting_changes", lambda _rounds: Changes()),
        ("channelstream.transports.catch_up.forms_for", lambda _user, entries, _changes: entries),
    ],
)
def test_a_text_that_is_sent_after_its_end_is_found(
    monkeypatch: pytest.MonkeyPatch, place: str, fault: Any
) -> None:
    """A log that keeps superseded entries, a flush that writes them, and a client that is sent entries read before."""
    monkeypatch.setattr(place, fault)
    assert first_failure(r"sent after its (edit|deletion)")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "bound", "promise"),
    [
        (lambda _reach, received: received, lambda _reach: 0, "no member of it"),
        (
            lambda read_range, received: max(received, read_range.joined),
            lambda read_range: read_range.joined,
            "missing|lost without a reason",
        ),
        (
            lambda read_range, received: received if received < 0 else max(received, read_range.bound),
            lambda read_range: read_range.since if read_range.since >= 0 else read_range.joined,
            "recovered though nobody knows",
        ),
    ],
    ids=["the log is open", "nothing is named", "what is not known is complete"],
)
def test_reading_from_elsewhere_than_allowed_is_found(
    monkeypatch: pytest.MonkeyPatch, start: Any, bound: Any, promise: str
) -> None:
    """From before the join, from elsewhere than the application named, or without a report of the loss."""
    monkeypatch.setattr(ReadRange, "start", start)
    monkeypatch.setattr(ReadRange, "bound", property(bound))
    assert first_failure(promise)


@pytest.mark.slow
def test_a_connection_that_is_registered_at_once_and_reads_nothing_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In some worlds the engine never has to wait, and these connections are registered so."""
    register = LocalConnections.register_at_once

    def registered(local: LocalConnections, member: Member, *more: Any) -> Any:
        user = register(local, member, *more)
        connection = local.get(member.conn_id)
        if connection is not None:
            connection.channels |= dict.fromkeys(connection.channels, ReadRange.of(1 << 30))
        return user

    monkeypatch.setattr(LocalConnections, "register_at_once", registered)
    assert first_failure("missing|lost without a reason")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "fault", "promise"),
    [
        ("channelstream.core.entry.Entry.for_user", lambda entry, _user: entry, "not for this client"),
        ("channelstream.service.locks.Locks.try_acquire", Locks.of, "instead of|KeyError|counted"),
    ],
    ids=["its own parting", "no turn"],
)
def test_a_fault_where_many_leave_at_once_is_found(
    monkeypatch: pytest.MonkeyPatch, place: str, fault: Any, promise: str
) -> None:
    """A user that reconnects receives its own leave; pending calls about an id are not waited for."""
    monkeypatch.setattr(place, fault)
    assert first_failure(promise, Play(weights=CROWDED))


@pytest.mark.slow
def test_idle_time_by_the_wall_clock_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of the clock forgets used items, or keeps idle ones."""

    def collect(log: LocalLog) -> Forgotten:
        lifetimes = log._lifetimes
        return log.registry.collect(log._clock.wall(), lifetimes.users_s, lifetimes.channels_s)

    monkeypatch.setattr("channelstream.engines.local_log.moment", lambda clock: Moment(*[clock.wall()] * 2))
    monkeypatch.setattr(LocalLog, "forget_idle", collect)
    assert first_failure("forgotten too early|idle for too long")


@pytest.mark.slow
def test_a_broken_promise_is_found_and_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that loses an event is found, and the script that shows it becomes short."""
    monkeypatch.setattr("channelstream.core.log._offset", lambda entry: entry.offset - 1)

    def fails(steps: list[object]) -> bool:
        try:
            simulate(3, steps)  # type: ignore[arg-type]
        except Failure:
            return True
        return False

    script = make_script(3, CLIENTS)
    assert fails(list(script))
    assert len(shrink(script, lambda steps: fails(list(steps)))) < 12


def plant(monkeypatch: pytest.MonkeyPatch, compute: Any) -> None:
    """Have the first sweep of the deadlines of each run compute besides."""
    sweep, seen = Node.sweep, list[Node]()

    async def swept(node: Node) -> None:
        if node not in seen:
            seen.append(node)
            compute()
        await sweep(node)

    monkeypatch.setattr(Node, "sweep", swept)


def compute_too_long() -> None:
    until_s = time.thread_time() + 1.5 * BOUND_S
    while time.thread_time() < until_s:
        pass


@pytest.mark.slow
def test_a_flush_takes_several_turns_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """In some worlds: else nothing is played of what may happen between its slices."""
    rests = 0
    flush_part = FlushPacer._flush_part

    def counted(pacer: FlushPacer) -> None:
        nonlocal rests
        flush_part(pacer)
        rests += pacer._part_ended_s is not None

    monkeypatch.setattr(FlushPacer, "_flush_part", counted)
    for seed in range(10):
        simulate(seed, make_script(seed, CLIENTS))
    assert rests


def test_a_step_that_computes_too_long_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that is not cut into slices is named, with the step of the script in which it ran."""
    plant(monkeypatch, compute_too_long)
    script = [Step("pass", 0, 546334, 0)]
    with pytest.raises(
        Failure, match=r"a step of the loop computes too long: \d+ ms of CPU in .*at step 1: "
    ):
        simulate(3, script)


def test_time_that_is_no_step_s_own_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of the garbage collector, which depends on the rest of the process, and of first imports."""

    def collect() -> None:
        until_s = time.thread_time() + 1.5 * BOUND_S
        while time.thread_time() < until_s:
            gc.collect()

    def load() -> None:
        compute_too_long()
        sys.modules[f"planted {len(sys.modules)}"] = sys

    plant(monkeypatch, collect)
    simulate(3, [Step("pass", 0, 546334, 0)])
    plant(monkeypatch, load)
    try:
        simulate(3, [Step("pass", 0, 546334, 0)])
    finally:
        for name in [name for name in sys.modules if name.startswith("planted")]:
            del sys.modules[name]
