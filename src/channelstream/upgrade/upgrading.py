"""Upgrades of this process: at most one at a time, at the request of a signal or of `control`."""

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable

from channelstream.errors import CannotHandOver, PeerEnded
from channelstream.shielded import result_of, retrieve
from channelstream.upgrade.giving import Giver, HandOver, Limits
from channelstream.upgrade.line import Line, Part
from channelstream.upgrade.messages import FAILED, Report
from channelstream.upgrade.snapshot import SNAPSHOT_VERSION
from channelstream.upgrade.successor import Process

FIRST_PROCESS = 1

logger = logging.getLogger(__name__)


class Upgrading:
    """Starts a new process, and hands everything over to it.

    Attributes:
        counts: how many there were, by their result.
        report: that of the upgrade after which this process ends.
        is_lost: nothing is left to go on with, and this process ends: the new one has everything and ended before it served,
            or what was held could not be taken back.
    """

    def __init__(
        self,
        make_giver: Callable[[], Giver],
        on_commit: Callable[[], None],
        on_return: Callable[[], None],
        on_end: Callable[[], None],
        counts: Counter[str],
        limits: Limits = Limits(),  # noqa: B008 - it is immutable
    ) -> None:
        """Create it; nothing is started.

        Args:
            on_commit: called before the new process may begin.
            on_return: called after `on_commit` if this process goes on after all.
            on_end: called when this process has nothing left to serve.
        """
        self.counts = counts
        self.report: Report | None = None
        self.is_lost = False
        self._make_giver = make_giver
        self._on_commit = on_commit
        self._on_return = on_return
        self._on_end = on_end
        self._limits = limits
        self._hand_over: HandOver | None = None
        self._successor: Process | None = None
        self._task: asyncio.Task[Report] | None = None
        self._is_stopping = False

    async def upgrade(self, terms: Part) -> Report:
        """Upgrade; this goes on though the caller is cancelled.

        Raises:
            PeerEnded: neither process goes on, or this one stops.
            CannotHandOver: this process goes on as before, or another upgrade is under way.
        """
        if self._is_stopping:
            raise PeerEnded("the server stops")
        if self._task is not None:
            raise CannotHandOver("an upgrade is under way")
        if os.getpid() == FIRST_PROCESS:
            raise CannotHandOver("a container ends with its first process: replace the container instead")
        self._task = asyncio.get_running_loop().create_task(self._run(terms))
        self._task.add_done_callback(self._ended)
        return await result_of(self._task)

    async def stop(self) -> None:
        """End an upgrade under way, because this process stops; wait if the new one has begun. Then begin none."""
        self._is_stopping = True
        if self._task is None:
            return
        running = self._hand_over
        if running is None or not (running.has_committed or running.is_taken_back):
            self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def pass_on(self, number: int) -> None:
        """Send a signal that is meant for the process that serves, if that is the new one."""
        if self._successor is not None and self._hand_over is not None and self._hand_over.has_committed:
            self._successor.signal(number)

    def _ended(self, task: "asyncio.Task[Report]") -> None:
        self._task = None
        retrieve(task)

    async def _run(self, terms: Part) -> Report:
        try:
            self.report = await self._attempt(terms)
        except CannotHandOver as error:
            self._failed(error)
            raise self._failure(str(error)) from error
        except asyncio.CancelledError as error:
            raise PeerEnded("the server stops") from error
        except Exception as error:
            logger.exception("a fault in the upgrade")
            self._failed(error)
            raise self._failure("a fault of the running server, which its log has") from error
        logger.info("%s", self.report.line)
        self._on_end()
        return self.report

    def _failure(self, reason: str) -> CannotHandOver:
        return PeerEnded(reason) if self.is_lost or self._is_stopping else CannotHandOver(reason)

    def _failed(self, error: Exception) -> None:
        self.counts[FAILED] += 1
        running = self._hand_over
        self.is_lost = running is not None and (running.has_committed or running.is_stuck)
        if running is not None and running.is_stuck:
            outcome = "the upgrade has failed, and this process cannot go on"
        elif self.is_lost:
            outcome = "the new process was handed everything over and has failed"
        elif self._is_stopping:
            outcome = "the upgrade has failed, and this process stops"
        else:
            outcome = "the upgrade has failed, and this process goes on"
        logger.error("%s: %s", outcome, error)
        if self.is_lost:
            self._on_end()

    async def _attempt(self, terms: Part) -> Report:
        logger.info("upgrading: a new process starts")
        self._hand_over = None
        ours, theirs = Line.pair()
        try:
            self._successor = Process.start(theirs)
        except OSError as error:
            ours.close()
            raise CannotHandOver(f"no process can be started: {error}") from error
        finally:
            theirs.close()
        self._hand_over = HandOver(
            ours, self._make_giver(), self._successor, self._on_commit, self._on_return, self._limits
        )
        try:
            return await self._hand_over.run(SNAPSHOT_VERSION, terms)
        finally:
            ours.close()
