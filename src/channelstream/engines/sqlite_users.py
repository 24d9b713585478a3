"""Changes of users: each is in one write with the events that announce it.

A failed write takes back a state and its events together, so all of them are in one batch. A user may be in a thousand
channels, whose events take several turns of the event loop. Meanwhile the batch stays open (`GroupCommit.hold`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from channelstream.core.registry import Registry
from channelstream.core.user import State
from channelstream.engines.base import Clock
from channelstream.engines.group_commit import Batch, GroupCommit
from channelstream.engines.local_log import LocalLog
from channelstream.engines.undo import public_state, undo_user
from channelstream.engines.unwritten import Unwritten
from channelstream.shielded import to_its_end


class UserChanges:
    """Has changed users written and announced."""

    def __init__(
        self, registry: Registry, clock: Clock, log: LocalLog, commits: GroupCommit, unwritten: Unwritten
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._log = log
        self._commits = commits
        self._unwritten = unwritten

    async def settled(self, user: str) -> None:
        """Wait until the last change is announced: another one would announce the rest of it in one turn."""
        while self._commits.is_held and user in self._log.announcements.waiting:
            await self._commits.released()

    @contextmanager
    def change(self, user: str, connected: bool) -> Iterator[Batch]:
        """Change a user in the block, which awaits nothing; `written` follows in the same turn.

        Args:
            connected: the block also registers a connection.
        """
        undo = undo_user(self._registry, user, self._clock, connected)
        announced_before = public_state(self._registry, user)
        with self._commits.together() as batch:
            yield batch
            self._save(batch, user, undo, announced_before)
            if self._log.announcements.next(user) and not self._commits.hold():
                self._log.announcements.rest(user)

    def _save(self, batch: Batch, name: str, undo: Callable[[], None], announced_before: State) -> None:
        """Have a user written with a batch.

        Args:
            announced_before: its public state before the change. If that is the same, joining does not have to wait.
        """
        batch.users.add(name)
        batch.undo.append(undo)
        if public_state(self._registry, name) != announced_before:
            self._unwritten.track([("user", name)], batch.done)

    async def written(self, user: str, batch: Batch) -> None:
        """Announce a change to the channels that have not received it, also if the caller is cancelled, and write it.

        Raises:
            Unavailable: it could not be written, and is taken back.
        """
        if user in self._log.announcements.waiting:
            await to_its_end(self._announce(user))
        await self._commits.written(batch)

    async def _announce(self, user: str) -> None:
        try:
            await self._log.announcements.rest_in_turns(user)
        finally:
            self._commits.release()
