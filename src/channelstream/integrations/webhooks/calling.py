"""The calls of a receiver: how one is made, what happened to them, and when one is given up."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from channelstream.apps.keys import DEFAULT
from channelstream.apps.webhooks import TYPES, Receiver
from channelstream.core.facts import Fact, kind_of
from channelstream.integrations.webhooks.formats import call_of, headers_of
from channelstream.integrations.webhooks.schedule import schedule_of

logger = logging.getLogger(__name__)

REFUSALS = frozenset(range(400, 501)) - {408, 425, 429}
"""Statuses that may be about what a call has: those of RFC 9110, 15.5, besides those that are about the time, and 500, with
which a receiver answers whose code fails. Later ones, such as 503, are about the receiver, or a proxy in front of it."""

Sleep = Callable[[float], Awaitable[None]]


@dataclass(slots=True)
class Figures:
    """What happened to the calls of a receiver since the process began to send.

    Attributes:
        sent: facts that were answered with 2xx.
        calls: attempts, those that failed included.
        failed: attempts that failed.
        given_up: facts that were given up.
        accepted_s: when a call was accepted last, in epoch seconds; 0 for never.
        error: why the last call that failed was not accepted; empty if none has failed.
        error_s: when that was, in epoch seconds.
        failing_since_s: when the first of the calls failed that have failed since one was accepted; 0 if none has.
    """

    sent: int = 0
    calls: int = 0
    failed: int = 0
    given_up: int = 0
    accepted_s: float = 0.0
    error: str = ""
    error_s: float = 0.0
    failing_since_s: float = 0.0


class NotAccepted(Exception):
    """A call was not answered with 2xx; the text says why, without what the receiver has answered.

    Attributes:
        status: of the answer; 0 if there was none.
        wait_s: after how many seconds the receiver wants it again; 0 if it does not say.
    """

    def __init__(self, reason: str, status: int = 0, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.status = status
        self.wait_s = wait_s

    @property
    def is_refusal(self) -> bool:
        """Whether the receiver may refuse what the call has: it has read it, and does not ask for another attempt later."""
        return self.status in REFUSALS and not self.wait_s


class Post(Protocol):
    """Makes a call."""

    async def __call__(self, headers: dict[str, str], body: bytes) -> None:
        """Raise `NotAccepted` unless it is accepted."""


@dataclass(slots=True)
class Gone:
    """That a receiver answers that it wants no more; its lanes share it.

    Attributes:
        answers: how many in a row; the first of them may be about one fact, however wrong that is.
        reason: the last of them.
        until_s: when the next call is made, by the steady clock; what is due before is given up without one.
    """

    answers: int = 0
    reason: str = ""
    until_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LaneParts:
    """What the lanes of a receiver share.

    Attributes:
        wall: returns epoch seconds.
        steady: returns the seconds of a clock that only goes on.
        given_up: takes the facts that were given up, and why.
    """

    receiver: Receiver
    post: Post
    figures: Figures
    wall: Callable[[], float]
    steady: Callable[[], float]
    sleep: Sleep
    given_up: Callable[[tuple[Fact, ...], str], Awaitable[None]]
    gone: Gone = field(default_factory=Gone)

    @property
    def logged(self) -> str:
        """What the log calls the receiver: further applications may have the same URL."""
        label, app_id = self.receiver.label, self.receiver.app_id
        return label if app_id == DEFAULT else f"{label} of application {app_id}"


class Attempts:
    """The attempts to make one call, until it is accepted or given up.

    Attributes:
        wait_s: how long to wait for the next one, in seconds.
    """

    def __init__(self, parts: LaneParts, facts: Sequence[Fact]) -> None:
        """Make none yet; the time until the call is given up begins."""
        self._parts = parts
        self._call = call_of(parts.receiver, facts)
        self._schedule = schedule_of(parts.receiver)
        self._began_s = parts.steady()
        self._failed = 0
        self.wait_s = 0.0

    async def make(self, *, is_last: bool = False) -> NotAccepted | None:
        """Make one; return why another one is due, or None if the call is accepted or given up.

        Args:
            is_last: give it up if it is refused now.
        """
        parts, call = self._parts, self._call
        if parts.steady() < parts.gone.until_s:
            await self.give_up(f"not called after {parts.gone.reason}")
            return None
        parts.figures.calls += 1
        try:
            await parts.post(headers_of(parts.receiver, call, parts.wall()), call.body)
        except NotAccepted as error:
            refused = error
        else:
            self._accepted()
            return None
        self._failed += 1
        final = refused.status in self._schedule.final
        self._note_failure(refused, final=final)
        self.wait_s = self._schedule.wait_s(self._failed, refused.wait_s)
        if final:
            self._note_gone(refused)
            await self.give_up(str(refused))
            return None
        if (
            is_last and refused.is_refusal
        ) or parts.steady() - self._began_s + self.wait_s > self._schedule.give_up_s:
            label, count = parts.logged, len(call.facts)
            logger.error("webhooks: events for %s are given up: %d, %s", label, count, refused)
            await self.give_up(str(refused))
            return None
        return refused

    def _accepted(self) -> None:
        figures = self._parts.figures
        figures.sent += len(self._call.facts)
        figures.accepted_s = self._parts.wall()
        self._parts.gone.answers, self._parts.gone.until_s = 0, 0.0
        if figures.failing_since_s:
            figures.failing_since_s = 0.0
            logger.warning("webhooks: %s has accepted a call again", self._parts.logged)

    def _note_failure(self, error: NotAccepted, *, final: bool) -> None:
        figures, reason = self._parts.figures, str(error)
        is_other = reason != figures.error
        figures.failed += 1
        figures.error, figures.error_s = reason, self._parts.wall()
        if error.is_refusal and not final and (len(self._call.facts) > 1 or self._failed > 1):
            return  # A part of this call may be accepted, or others are: a refused fact is reported once.
        news = not figures.failing_since_s or (final and is_other)
        figures.failing_since_s = figures.failing_since_s or figures.error_s
        if news:
            logger.warning("webhooks: %s %s", self._parts.logged, self._failure(error, final=final))

    def _failure(self, error: NotAccepted, *, final: bool) -> str:
        if final:
            return f"does not take a call: {error}, so its events are given up"
        if error.is_refusal:
            fact = self._call.facts[0]
            return (
                f"refuses event {fact.id} ({TYPES[kind_of(fact)]}), which is tried again by itself: {error}"
            )
        return f"does not take a call: {error}"

    def _note_gone(self, error: NotAccepted) -> None:
        gone, now_s = self._parts.gone, self._parts.steady()
        if now_s >= gone.until_s:  # Not already known, by the call of another lane.
            gone.answers, gone.reason = gone.answers + 1, str(error)
            if gone.answers > 1:
                gone.until_s = now_s + self._schedule.wait_s(gone.answers - 1, error.wait_s)

    async def give_up(self, reason: str) -> None:
        """Make none any more."""
        facts = self._call.facts
        self._parts.figures.given_up += len(facts)
        await self._parts.given_up(facts, reason)
