"""The side of the process that hands its work over: it goes on as before unless every step succeeds."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple, Protocol

from channelstream import __version__
from channelstream.errors import CannotHandOver, PeerEnded
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
    READY,
    SET,
    Failure,
    Hello,
    Report,
)

TAKEN_S = 10.0
"""How long a new process may take to build everything from the state, in seconds."""
COPIES = 2
"""Copies before anything waits. The first one takes long, so much may change meanwhile; the second one has only that."""
ENDING_S = 2.0
"""How long a process whose end of the line is closed may take to exit, in seconds."""


class Giver(Protocol):
    """What a process hands over.

    Attributes:
        tally: the sockets of each kind that are handed over, and under `ended` the streams that are not.
    """

    @property
    def tally(self) -> Mapping[str, int]: ...

    def copy(self) -> AsyncIterator[Part]:
        """Yield all that can be copied while everything is served; when called again, what has changed since."""

    async def hold_streams(self) -> None:
        """Read no stream any more; calls are still served."""

    async def freeze(self) -> None:
        """Begin no work, and finish what is in progress.

        Raises:
            CannotHandOver: it does not finish in time.
        """

    def parts(self) -> AsyncIterator[Part]:
        """Yield the rest of the state, and of the descriptors, which stay open here."""

    async def thaw(self) -> None:
        """Go on, wherever `copy`, `hold_streams`, `freeze` or `parts` have stopped."""

    async def release(self) -> None:
        """Close what is handed over, so that the other process has it alone."""


class Successor(Protocol):
    """The new process."""

    async def end(self, patience_s: float) -> str:
        """Wait for its end, kill it after a time, and return how it ended."""


class Limits(NamedTuple):
    """Longest times of the steps, in seconds.

    Attributes:
        start_s: until the new process has started, read its configuration and built everything from copies.
        frozen_s: until it could serve, from the moment at which this one stops reading requests.
        apart_s: until it could serve, from the moment at which the engine hands its state over: others take a node
            without links to Redis for dead after `node_lease_s`.
        begin_s: until it answers calls. This process has nothing any more that it could go on with.
        attach_s: until it serves all streams. This process does not wait for longer.
    """

    start_s: float = 60.0
    frozen_s: float = TAKEN_S
    apart_s: float = TAKEN_S
    begin_s: float = 30.0
    attach_s: float = 60.0


class HandOver:
    """The steps towards one successor.

    Attributes:
        has_committed: from here on the successor serves, and nothing can be taken back.
        is_taken_back: it has failed. To cancel it from here on would leave everything held.
        is_stuck: this process cannot go on, since it could not take back what it holds.
    """

    def __init__(
        self,
        line: Line,
        giver: Giver,
        successor: Successor,
        on_commit: Callable[[], None],
        on_return: Callable[[], None],
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create them; nothing is sent.

        Args:
            on_commit: called before the successor may begin.
            on_return: called after `on_commit` if the successor had ended before.
        """
        self._line = line
        self._giver = giver
        self._successor = successor
        self._on_commit = on_commit
        self._on_return = on_return
        self._limits = limits
        self._clock = clock
        self.has_committed = self.is_taken_back = self.is_stuck = False
        self._has_begun = False

    async def run(self, snapshot: int, terms: Part) -> Report:
        """Hand everything over.

        Args:
            snapshot: the version of the state.
            terms: a message of kind TERMS.

        Raises:
            CannotHandOver: the new process is dead, and this one goes on.
        """
        try:
            async with within(self._limits.start_s, self._late):
                hello, not_changed = await self._introduced(snapshot, terms)
                self._has_begun = True
                for _ in range(COPIES):
                    await self._send_all(self._giver.copy())
                    await self._line.send(Part(COPIED))
                    await self._next(BUILT)
                await self._giver.hold_streams()
            frozen_at_s = self._clock()
            async with within(self._limits.frozen_s, lambda: "the new process has not taken the state over"):
                await self._send_state()
        except BaseException as error:
            await self._take_back(error)
            raise
        await self._commit()
        calls_s = round(self._clock() - frozen_at_s, 3)
        streams_s = round(self._clock() - frozen_at_s, 3) if await self._is_attached() else None
        tally = dict(self._giver.tally)
        return Report(__version__, hello.version, hello.pid, tally, calls_s, streams_s, not_changed)

    def _late(self) -> str:
        return f"the new process has not {'built everything from a copy' if self._has_begun else 'started'}"

    async def _introduced(self, snapshot: int, terms: Part) -> tuple[Hello, str]:
        """Return who takes over, and which options of its configuration have no effect (`Report.not_changed`)."""
        hello = Hello.of(await self._next(HELLO))
        if hello.snapshot != snapshot:
            raise CannotHandOver(
                f"channelstream {hello.version} reads another version of the state"
                f" ({hello.snapshot}, here {snapshot}); restart the service instead"
            )
        await self._line.send(terms)
        return hello, (await self._next(SET)).body.decode()

    async def _send_state(self) -> None:
        await self._giver.freeze()
        async with within(self._limits.apart_s, lambda: "the new process has not taken the state over"):
            await self._send_all(self._giver.parts())
            await self._line.send(Part(END))
            await self._next(READY)

    async def _send_all(self, parts: AsyncIterator[Part]) -> None:
        async for part in parts:
            await self._line.send(part)

    async def _commit(self) -> None:
        """Let the new process begin. It does so as well if this one ends now.

        Raises:
            CannotHandOver: it has not begun. Nothing is left here if `has_committed`.
        """
        self.has_committed = True
        self._on_commit()
        try:
            async with within(self._limits.begin_s, lambda: "the new process has not begun"):
                await self._begun()
        except CannotHandOver:
            if self.has_committed:
                # Else it would hold the address, and the service could not be started again.
                await self._successor.end(0.0)
            raise

    async def _begun(self) -> None:
        try:
            await self._line.send(Part(COMMIT))
            await self._next(BEGINS)
        except PeerEnded as error:
            await self._return(error)
            raise
        await self._giver.release()
        await self._next(BEGUN)

    async def _is_attached(self) -> bool:
        """Wait until the new process serves all streams, and return whether it does in time."""
        try:
            async with asyncio.timeout(self._limits.attach_s):
                await self._next(ATTACHED)
        except TimeoutError:
            return False
        return True

    async def _return(self, error: PeerEnded) -> None:
        """Go on here: the successor has ended before it has touched anything.

        Raises:
            CannotHandOver: how it had ended.
        """
        self.has_committed = False
        try:
            await self._take_back(error)
        finally:
            self._on_return()

    async def _take_back(self, error: BaseException) -> None:
        """Go on here. The new process is dead before: if the line ended first, it would begin.

        Raises:
            CannotHandOver: the new process had ended, and how.
        """
        self.is_taken_back = True
        has_ended = isinstance(error, PeerEnded)
        ending = await self._successor.end(ENDING_S if has_ended else 0.0)
        if self._has_begun:
            await self._thaw()
        if has_ended:
            raise CannotHandOver(f"the new process has ended ({ending}); the log has its reason") from error

    async def _thaw(self) -> None:
        try:
            await self._giver.thaw()
        except Exception:
            self.is_stuck = True
            raise

    async def _next(self, kind: str) -> Part:
        part = await self._line.receive()
        if part.kind == FAILED:
            raise CannotHandOver(Failure.of(part).reason)
        if part.kind != kind:
            raise CannotHandOver(f"the new process has sent {part.kind[:32]!r} where {kind!r} is due")
        return part


@asynccontextmanager
async def within(limit_s: float, failure: Callable[[], str]) -> AsyncIterator[None]:
    """Bound the time of a step.

    Raises:
        CannotHandOver: it has not ended in time.
    """
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError as error:
        raise CannotHandOver(f"{failure()} within {limit_s:g} s") from error
