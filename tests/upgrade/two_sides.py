"""Both sides of a hand-over in one loop, over a real line; each notes what is done with it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

from channelstream.config import Settings
from channelstream.upgrade.giving import HandOver, Limits
from channelstream.upgrade.line import Line, Part
from channelstream.upgrade.messages import (
    BUILT,
    TERMS,
    Report,
    Terms,
)
from channelstream.upgrade.taking import TakeOver

SNAPSHOT = 7
TERMS_GIVEN = Terms(
    host="127.0.0.1",
    port=8001,
    unix_socket="",
    metrics_host="127.0.0.1",
    metrics_port=0,
    cookie_secret="of the old process",
    upgrades={"done": 3},
)
STATE = [Part("state", b"1"), Part("state", b"2")]
Steps = list[str]
Successor = Callable[[], Coroutine[Any, Any, None]]


class OldState:
    """What the old process has; it notes what is done with it."""

    def __init__(self, steps: Steps) -> None:
        self.tally = {"websocket": 2}
        self._steps = steps
        self.before_freeze: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0)

    async def copy(self) -> AsyncIterator[Part]:
        yield STATE[0]

    async def hold_streams(self) -> None:
        self._steps.append("hold streams")

    async def freeze(self) -> None:
        self._steps.append("freeze")
        await self.before_freeze()

    async def parts(self) -> AsyncIterator[Part]:
        for part in STATE[1:]:
            yield part

    async def thaw(self) -> None:
        self._steps.append("thaw")

    async def release(self) -> None:
        self._steps.append("release")


class NewState:
    """What the new process gets; it notes what is done with it."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self.taken: list[Part] = []
        self.in_prepared: Callable[[], None] = lambda: None

    async def take(self, part: Part) -> None:
        self.taken.append(part)

    async def build(self) -> None:
        self.taken.append(Part(BUILT))

    async def prepared(self) -> None:
        self._steps.append("prepared")
        self.in_prepared()

    async def begin(self) -> None:
        self._steps.append("begin")

    async def attach(self) -> None:
        self._steps.append("attach")


class Stage:
    """Both sides in one loop, over a real line."""

    def __init__(self) -> None:
        self.steps: Steps = []
        self.ours, self.theirs = Line.pair()
        self.old, self.new = OldState(self.steps), NewState(self.steps)
        self.has_committed = False
        self.now_s = 100.0
        self.take_over = TakeOver(self.theirs)
        self.on_name: Callable[[], None] = lambda: None
        self._successor: asyncio.Task[None] | None = None

    def leave_name(self) -> None:
        self.steps.append("name")
        self.on_name()

    async def end(self, patience_s: float) -> str:
        """Be the successor that is killed."""
        self.steps.append("kill")
        if self._successor is not None:
            self._successor.cancel()
            await asyncio.gather(self._successor, return_exceptions=True)
        self.theirs.close()
        return "signal 9" if not patience_s else "exit code 3"

    async def run(self, successor: Successor | None = None, limits: Limits | None = None) -> Report:
        """Hand over to a successor; return its report, or raise."""
        self._successor = asyncio.get_running_loop().create_task((successor or self.succeed)())
        hand_over = HandOver(
            self.ours,
            self.old,
            self,
            self.leave_name,
            lambda: self.steps.append("name again"),
            limits or Limits(),
            lambda: self.now_s,
        )
        try:
            return await hand_over.run(SNAPSHOT, TERMS_GIVEN.part(TERMS))
        finally:
            self.has_committed = hand_over.has_committed
            if self.has_committed and not self._successor.cancelled():
                await self._successor

    async def succeed(self, configured: Settings = Settings()) -> None:  # noqa: B008 - it is immutable
        """Be the new process."""
        await self.take_over.introduce(SNAPSHOT, configured)
        await self.take_over.take(self.new)
        await self.new.begin()
        await self.take_over.report_begun()
        await self.new.attach()
        await self.take_over.report_attached()
