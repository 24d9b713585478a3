"""Upgrades of a process: what becomes of it when one fails."""

import asyncio
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from channelstream import __version__
from channelstream.config import Settings
from channelstream.errors import CannotHandOver, PeerEnded
from channelstream.server import build
from channelstream.upgrade.line import Line, Part
from channelstream.upgrade.messages import (
    ATTACHED,
    BEGINS,
    BEGUN,
    BUILT,
    COPIED,
    END,
    FAILED,
    HELLO,
    READY,
    SET,
    TERMS,
    Hello,
    Report,
)
from channelstream.upgrade.snapshot import SNAPSHOT_VERSION
from channelstream.upgrade.successor import Process
from channelstream.upgrade.upgrading import Upgrading


class Holding:
    """What a process has; `steps` notes what is done with it."""

    def __init__(self) -> None:
        self.tally: dict[str, int] = {}
        self.steps: list[str] = []
        self.is_stuck = False

    async def copy(self) -> AsyncIterator[Part]:
        yield Part("state")

    async def hold_streams(self) -> None:
        self.steps.append("hold streams")

    async def freeze(self) -> None:
        self.steps.append("freeze")

    async def parts(self) -> AsyncIterator[Part]:
        yield Part("state")

    async def thaw(self) -> None:
        self.steps.append("thaw")
        if self.is_stuck:
            raise OSError("the disk is full")

    async def release(self) -> None:
        self.steps.append("release")


class Dying:
    """A new process that takes the state and ends; its end is noticed when `may_end` is set."""

    def __init__(self, line: Line) -> None:
        # `line` is closed here as soon as the process has it.
        self._line = Line(socket.socket(fileno=os.dup(line.socket.fileno())))
        self._playing = asyncio.get_running_loop().create_task(self._play())
        self.is_waited_for, self.may_end = asyncio.Event(), asyncio.Event()

    async def _play(self) -> None:
        await self._line.send(Hello(SNAPSHOT_VERSION, __version__, 1).part(HELLO))
        await self._line.receive()
        await self._line.send(Part(SET))
        while (kind := (await self._line.receive()).kind) != END:
            if kind == COPIED:
                await self._line.send(Part(BUILT))
        await self._continue()

    async def _continue(self) -> None:
        self._line.close()

    async def end(self, patience_s: float) -> str:
        self.is_waited_for.set()
        await self.may_end.wait()
        self._playing.cancel()
        await asyncio.gather(self._playing, return_exceptions=True)
        self._line.close()
        return "exit code 7"


class Beginning(Dying):
    """A new process that begins to serve, and does so when `may_end` is set; `signals` has those that it was sent."""

    signals: tuple[int, ...] = ()

    async def _continue(self) -> None:
        await self._line.send(Part(READY))
        await self._line.receive()
        await self._line.send(Part(BEGINS))
        await self.may_end.wait()
        await self._line.send(Part(BEGUN))
        await self._line.send(Part(ATTACHED))

    def signal(self, number: int) -> None:
        self.signals += (number,)


def play(
    monkeypatch: pytest.MonkeyPatch,
    holding: Holding,
    scenario: Callable[[Upgrading, list[Any]], Any],
    successor: type[Dying] = Dying,
) -> tuple[Upgrading, list[str]]:
    """Return what the upgrades of a scenario have left, and whether the process has ended for that."""
    started: list[Dying] = []

    def start(line: Line) -> Dying:
        started.append(successor(line))
        return started[-1]

    async def run() -> Upgrading:
        upgrading = Upgrading(
            lambda: holding, lambda: None, lambda: None, lambda: ends.append("ends"), Counter()
        )
        await scenario(upgrading, started)
        return upgrading

    ends: list[str] = []
    monkeypatch.setattr(Process, "start", start)
    return asyncio.run(run()), ends


async def ask(upgrading: Upgrading, started: list[Dying], count: int = 1) -> "asyncio.Task[Report]":
    """Ask for an upgrade, and wait until so many new processes have started."""
    asked = asyncio.create_task(upgrading.upgrade(Part(TERMS)))
    while len(started) < count:
        await asyncio.sleep(0)
    return asked


def test_a_stop_waits_until_everything_is_taken_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else the new process could live, and all streams would stay held during the drain. Then none begins."""

    async def scenario(upgrading: Upgrading, started: list[Dying]) -> None:
        asked = await ask(upgrading, started)
        await started[0].is_waited_for.wait()
        stopping = asyncio.create_task(upgrading.stop())
        await asyncio.sleep(0)
        started[0].may_end.set()
        with pytest.raises(PeerEnded, match="exit code 7"):
            await asked
        await stopping
        with pytest.raises(PeerEnded, match="the server stops"):
            await upgrading.upgrade(Part(TERMS))

    holding = Holding()
    upgrading, ends = play(monkeypatch, holding, scenario)
    assert holding.steps == ["hold streams", "freeze", "thaw"]
    assert (upgrading.counts, upgrading.is_lost, ends) == ({FAILED: 1}, False, [])
    assert "the upgrade has failed, and this process stops" in caplog.text


def test_a_stop_waits_for_a_new_process_that_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has everything, and is sent the signals that come. Before it has, they are not meant for it."""

    async def scenario(upgrading: Upgrading, started: list[Beginning]) -> None:
        asked = await ask(upgrading, started)
        upgrading.pass_on(signal.SIGHUP)
        while "release" not in holding.steps:
            await asyncio.sleep(0)
        upgrading.pass_on(signal.SIGTERM)
        stopping = asyncio.create_task(upgrading.stop())
        await asyncio.sleep(0)
        started[0].may_end.set()
        assert (await asked).pid == 1
        await stopping
        assert started[0].signals == (signal.SIGTERM,)
        await started[0].end(0.0)

    holding = Holding()
    upgrading, ends = play(monkeypatch, holding, scenario, Beginning)
    assert (upgrading.is_lost, ends, holding.steps[-1]) == (False, ["ends"], "release")


def test_a_failure_that_nobody_waits_for_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The command that asked for the upgrade may have ended."""

    async def scenario(upgrading: Upgrading, started: list[Dying]) -> None:
        asked = await ask(upgrading, started)
        await started[0].is_waited_for.wait()
        asked.cancel()
        await asyncio.wait([asked])
        started[0].may_end.set()
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)

    play(monkeypatch, Holding(), scenario)
    [error] = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert "exit code 7" in error


class Faulty(Holding):
    """One with a bug."""

    async def freeze(self) -> None:
        await super().freeze()
        raise ZeroDivisionError


def test_a_bug_fails_the_upgrade_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has it, and the next upgrade may begin."""

    async def scenario(upgrading: Upgrading, started: list[Dying]) -> None:
        for number in range(2):
            asked = await ask(upgrading, started, number + 1)
            started[number].may_end.set()
            with pytest.raises(CannotHandOver, match=r"^a fault of the running server, which its log has$"):
                await asked

    holding = Faulty()
    upgrading, ends = play(monkeypatch, holding, scenario)
    assert holding.steps == ["hold streams", "freeze", "thaw"] * 2
    assert (upgrading.counts, upgrading.is_lost, ends) == ({FAILED: 2}, False, [])
    assert "ZeroDivisionError" in caplog.text


def test_a_process_that_cannot_take_back_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its service manager starts it again; it does not stay without its engine."""

    async def scenario(upgrading: Upgrading, started: list[Dying]) -> None:
        asked = await ask(upgrading, started)
        started[0].may_end.set()
        with pytest.raises(PeerEnded):
            await asked

    holding = Holding()
    holding.is_stuck = True
    upgrading, ends = play(monkeypatch, holding, scenario)
    assert (upgrading.is_lost, ends) == (True, ["ends"])
    assert "this process cannot go on: the disk is full" in caplog.text


def test_a_process_whose_end_cannot_be_waited_for_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure this one goes on only when the other one is dead. It is."""

    def refuse(pid: int) -> int:
        pids.append(pid)
        raise PermissionError

    pids: list[int] = []
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", "input()"])
    monkeypatch.setattr(os, "pidfd_open", refuse)
    ours, theirs = Line.pair()
    with pytest.raises(PermissionError):
        Process.start(theirs)
    for line in (ours, theirs):
        line.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_no_upgrade_begins_before_all_streams_of_the_last_one_are_continued(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Calls are answered before, so one may be asked for; it would lose the streams that are still to come."""
    started: list[Line] = []
    monkeypatch.setattr(Process, "start", started.append)

    async def life() -> None:
        server = build(Settings(secret="secret"))
        with pytest.raises(CannotHandOver, match="streams"):
            await server.upgrade()

    asyncio.run(life())
    assert not started
