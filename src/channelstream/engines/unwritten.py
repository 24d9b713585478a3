"""The changes that are not written yet, so that a failed write may still take them back."""

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial

Changed = tuple[str, str]
"""A changed item: `channel` (its settings) or `user` (its state), and its name."""


class Unwritten:
    """The changed items, each with the outcome of the write that has its last change.

    Joining and leaving have effects that depend on settings and states, and are not undone. So they wait until no change
    of these can be undone any more.
    """

    def __init__(self) -> None:
        self._writes: dict[Changed, asyncio.Future[bool]] = {}

    def track(self, changed: Sequence[Changed], done: "asyncio.Future[bool]") -> None:
        """Remember changes until their write is `done`."""
        self._writes |= dict.fromkeys(changed, done)
        done.add_done_callback(partial(self._forget, changed))

    def _forget(self, changed: Iterable[Changed], done: "asyncio.Future[bool]") -> None:
        for each in changed:
            if self._writes.get(each) is done:
                del self._writes[each]

    async def written(self, channels: Iterable[str], users: Iterable[str] = ()) -> None:
        """Wait until no change of the settings of channels, or of the states of users, can be undone any more."""
        if not self._writes:
            return
        looked_at = [*(("channel", name) for name in channels), *(("user", name) for name in users)]
        while waiting := {self._writes[each] for each in looked_at if each in self._writes}:
            await asyncio.wait(waiting)
