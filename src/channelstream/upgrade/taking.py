"""The side of the process that takes over: it touches no socket before the other one has committed."""

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from channelstream import __version__
from channelstream.config import Settings
from channelstream.config.safety import check_safety
from channelstream.errors import CannotHandOver, ConfigError, PeerEnded
from channelstream.integrations.metrics.siblings import Worker
from channelstream.upgrade.line import Line, Part
from channelstream.upgrade.messages import (
    ATTACHED,
    BEGINS,
    BEGUN,
    BUILT,
    COMMIT,
    COPIED,
    END,
    FAILED,
    HELLO,
    MAX_REASON,
    READY,
    SET,
    TERMS,
    Failure,
    Hello,
    Terms,
)


class Taker(Protocol):
    """What takes the work of another process over."""

    async def take(self, part: Part) -> None:
        """Keep a part of the state.

        Raises:
            CannotHandOver: it cannot be used here.
        """

    async def build(self) -> None:
        """Build everything from the parts that are here, and touch no socket; further ones change it.

        Raises:
            CannotHandOver: something cannot be used here.
        """

    async def prepared(self) -> None:
        """Complete everything with the last parts, and touch no socket.

        Raises:
            CannotHandOver: something is missing, or cannot be used here.
        """

    async def begin(self) -> None:
        """Accept, and answer calls."""

    async def attach(self) -> None:
        """Continue the streams, some at a time."""


class TakeOver:
    """The steps towards the work of the process at the other end of a line.

    Attributes:
        upgrades: how many there were since the service was started, by their result; this one is done.
        worker: the place of this process among the workers of a service.
        parent: its line to the parent of the workers, if there is one.
        not_changed: which options of the configuration have no effect (`Report`).
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self.upgrades: dict[str, int] = {}
        self.worker = Worker()
        self.parent: socket.socket | None = None
        self.not_changed = ""

    async def introduce(self, snapshot: int, settings: Settings) -> Settings:
        """Return the settings to serve with: these, at the addresses of the sockets that are handed over.

        Args:
            snapshot: the version of the state that this process reads.

        Raises:
            CannotHandOver: the other process refuses, or has ended.
            ConfigError: what is safe at the address of the configuration is not at that of the sockets.
        """
        await self._line.send(Hello(snapshot, __version__, os.getpid()).part(HELLO))
        part = await self._next(TERMS)
        terms = Terms.of(part)
        if settings.workers != terms.workers:
            raise ConfigError("workers: an upgrade does not change it; restart the service")
        self.parent = next((socket.socket(fileno=each) for each in part.descriptors), None)
        self.worker = Worker(Path(terms.directory) if terms.directory else None, terms.worker, terms.workers)
        self.upgrades = terms.upgrades
        self.not_changed = terms.not_changed_by(settings)
        kept = terms.applied_to(settings)
        check_safety(kept)
        return kept

    async def take(self, taker: Taker) -> None:
        """Take the state, and wait until the other process has committed, or has ended: then it needs nothing back.

        Raises:
            CannotHandOver: the other process keeps its work.
        """
        await self._line.send(Part(SET, self.not_changed.encode()))
        while (part := await self._line.receive()).kind != END:
            if part.kind == COPIED:
                await taker.build()
                await self._line.send(Part(BUILT))
            else:
                await taker.take(part)
        await taker.prepared()
        await self._line.send(Part(READY))
        with suppress(PeerEnded):
            await self._next(COMMIT)
            # Before anything is touched: until this arrives, the other process can go on if this one ends.
            await self._line.send(Part(BEGINS))

    async def report_begun(self) -> None:
        """Inform the other process that this one answers calls."""
        with suppress(PeerEnded):
            await self._line.send(Part(BEGUN))

    async def report_attached(self) -> None:
        """Inform the other process, if it still waits, that this one serves all streams."""
        with suppress(PeerEnded):
            await self._line.send(Part(ATTACHED))

    async def refuse(self, reason: str) -> bool:
        """Inform the other process that this one ends, and return whether it is there: then its log has the reason."""
        try:
            await self._line.send(Failure(reason[:MAX_REASON]).part(FAILED))
        except PeerEnded:
            return False
        return True

    async def _next(self, kind: str) -> Part:
        part = await self._line.receive()
        if part.kind != kind:
            raise CannotHandOver(f"the old process has sent {part.kind[:32]!r} where {kind!r} is due")
        return part
