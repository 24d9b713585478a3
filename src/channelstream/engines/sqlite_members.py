"""Changes of members: connections are registered, join and leave channels, and are unregistered.

Not everything waits for the disk. A connection is a member as soon as it joins and until it leaves, whatever the disk
says: to refuse to leave would be absurd. Its presence event, and its row for a restart (`sqlite_connections.py`), are
written when that is possible. Who calls waits for that, so what was acknowledged survives a crash.

Joining and leaving have effects that depend on settings and user state and cannot be undone, so they wait until a change
of these is decided (`unwritten.py`).
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from channelstream.core.position import UNKNOWN_POSITION, Position, ReadRange
from channelstream.core.user import UserChange, UserUpdate
from channelstream.engines.base import Registered
from channelstream.engines.group_commit import GroupCommit
from channelstream.engines.local_log import LocalLog
from channelstream.engines.members import Leaving, Member, ToJoin, in_groups
from channelstream.engines.sqlite_users import UserChanges
from channelstream.engines.unwritten import Unwritten
from channelstream.errors import Unavailable
from channelstream.shielded import to_its_end
from channelstream.slices import turn_for

CHANNELS_AT_ONCE = 1000
"""Channels checked in one turn of the event loop while connections leave: more than one turn has time to leave."""


class MemberChanges:
    """The methods of `Directory` that change members: in memory at once, then written and announced."""

    def __init__(self, log: LocalLog, commits: GroupCommit, users: UserChanges, unwritten: Unwritten) -> None:
        self._log = log
        self._commits = commits
        self._users = users
        self._unwritten = unwritten

    async def connect(
        self,
        member: Member,
        update: UserUpdate,
        channels: Mapping[str, Mapping[str, Any]],
        since: Position | None,
    ) -> Registered:
        """Register a connection, and let it join: in two writes, since only the first is undone if it fails."""
        change = await self._register(member, update, since)
        try:
            joined = await self.join(member, channels, since) if channels else {}
        except BaseException:
            await to_its_end(self.disconnect_all([Leaving(member, ())]))
            raise
        return Registered(change.user, change.offsets, joined)

    async def _register(self, member: Member, update: UserUpdate, since: Position | None) -> UserChange:
        await self._users.settled(member.user)
        self._commits.check_room()
        with self._users.change(member.user, connected=True) as batch:
            change = self._log.connect(member, update)
            private = ReadRange.granted(self._log.committed, since, self._log.position.epochs, 0)
            batch.registrations.connect(member, private)
        batch.undo.append(lambda: self._end(member))
        try:
            await self._users.written(member.user, batch)
        except asyncio.CancelledError:
            # The caller is gone and will not unregister it. A rejected batch does so by its undo. The row ends now: the
            # next one may be that of another connection with this id.
            self._commits.batch().registrations.end(member.conn_id)
            batch.done.add_done_callback(lambda done: self._undo_connect(done, member))
            raise
        return change

    def _end(self, member: Member) -> None:
        """Delete a connection whose registration was not written, and report its end: its beginning is written later."""
        self._commits.deferred().registrations.end(member.conn_id)
        self._log.add_closed(member)

    def _undo_connect(self, done: "asyncio.Future[bool]", member: Member) -> None:
        if not done.cancelled() and done.result():
            self._log.undo_connect(member)
            self._commits.batch().users.add(member.user)

    async def join(
        self, member: Member, channels: Mapping[str, Mapping[str, Any]], since: Position | None = None
    ) -> dict[str, int]:
        await turn_for(len(channels))
        await self._unwritten.written(channels, [member.user])
        self._commits.check_room()
        waiting, joined = deque(channels.items()), dict[str, int]()
        try:
            while waiting:
                self._join_next(member, waiting, joined, since)
                if waiting:
                    await asyncio.sleep(0)
                    await self._unwritten.written((name for name, _ in waiting), [member.user])
            # The connection is a member whatever the disk says; its event is written as soon as that is possible.
            with suppress(Unavailable):
                await self._commits.flush()
        except BaseException:  # Cancelled, or a bug: the call has failed, so nothing stays joined.
            with self._commits.together() as batch:
                self._log.leave(member, joined)
                batch.registrations.leave(member.conn_id, joined)
            raise
        return joined

    def _join_next(
        self, member: Member, waiting: deque[ToJoin], joined: dict[str, int], since: Position | None
    ) -> None:
        before = len(joined)
        with self._commits.together() as batch:
            batch.channels.update(self._log.join_next(member, waiting, joined))
            new, epochs = islice(joined.items(), before, None), self._log.position.epochs
            ranges = {name: ReadRange.granted(offset, since, epochs, 0) for name, offset in new}
            batch.registrations.join(member.conn_id, ranges)

    async def leave(self, member: Member, channels: Sequence[str]) -> None:
        """Leave at once, or in several short turns; the presence event is delivered when it is written."""
        await turn_for(len(channels))
        await self._unwritten.written(channels)
        waiting, left = deque(channels), list[str]()
        try:
            while waiting:
                with self._commits.together() as batch:
                    count = len(left)
                    self._log.leave_next(member, waiting, left)
                    batch.registrations.leave(member.conn_id, left[count:])
                if waiting:
                    await asyncio.sleep(0)
                    await self._unwritten.written(waiting)
            with suppress(Unavailable):  # It has left, whatever the disk says.
                await self._commits.flush()
        except BaseException:
            again = deque[ToJoin]((name, {}) for name in left)
            while again:
                # After a restart it is unknown what it could read before.
                self._join_next(member, again, {}, UNKNOWN_POSITION)
            raise

    async def disconnect(self, member: Member, channels: Sequence[str]) -> None:
        """Unregister, and wait until that is written; if it cannot be, the connection ends nevertheless."""
        await to_its_end(self.disconnect_all([Leaving(member, channels)]))
        await self._commits.flush()

    async def disconnect_all(self, leaving: Sequence[Leaving]) -> None:
        """Unregister in many short turns; the presence events are delivered when they are written."""
        for group in in_groups(leaving, CHANNELS_AT_ONCE):
            for each in group:
                self._commits.batch().registrations.end(each.member.conn_id)
            while group:
                await self._unwritten.written(name for each in group for name in each.channels)
                disconnected = self._log.disconnect_next(group)
                self._commits.deferred().users.update(member.user for member in disconnected)
                await asyncio.sleep(0)
