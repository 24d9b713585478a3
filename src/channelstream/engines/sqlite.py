"""The SQLite engine: one process, and a file that keeps logs, settings, user state and connections across a restart.

Readers use the same registry in memory as with the memory engine. An event gets its offset at once. A thread writes it
together with all that arrived meanwhile (`group_commit.py`). Only then, in order, it is committed to memory and delivered
(`sqlite_writer.py`), and its caller answered. So no client ever has a position or an answer that a crash takes back.

Settings and user state change before they are written, and are undone if the write fails (`undo.py`). Connections join and
leave at once, whatever the disk says (`sqlite_members.py`).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from typing import Any

from channelstream.core.accepted import Accepted
from channelstream.core.channel import Channel
from channelstream.core.entry import Entry
from channelstream.core.events import Event
from channelstream.core.log import Replay
from channelstream.core.position import Offsets, Position
from channelstream.core.registry import Forgotten, Registry
from channelstream.core.registry_limits import Lifetimes
from channelstream.core.user import User, UserChange, UserUpdate
from channelstream.engines.base import (
    NO_CHANNELS,
    Clock,
    Counts,
    MembersAt,
    Receiver,
    Registered,
)
from channelstream.engines.cluster import SingleNode
from channelstream.engines.group_commit import GroupCommit
from channelstream.engines.incoming_state import TakenState
from channelstream.engines.local_log import LocalLog
from channelstream.engines.local_move import LocalMove
from channelstream.engines.local_reads import LocalReads
from channelstream.engines.members import Leaving, Member, RestoredConnection
from channelstream.engines.movable import OTHER_ENGINE
from channelstream.engines.outbox import OutboxSettings
from channelstream.engines.sqlite_calls import FileCalls
from channelstream.engines.sqlite_file import SqliteFile
from channelstream.engines.sqlite_members import MemberChanges
from channelstream.engines.sqlite_outbox import SqliteOutbox
from channelstream.engines.sqlite_restore import leave_event, restore_from
from channelstream.engines.sqlite_rows import DROP_LATER, Row
from channelstream.engines.sqlite_time_series import SqliteTimeSeries
from channelstream.engines.sqlite_upkeep import Upkeep
from channelstream.engines.sqlite_users import UserChanges
from channelstream.engines.sqlite_writer import SqliteWriter
from channelstream.engines.undo import undo_channels
from channelstream.engines.unwritten import Unwritten
from channelstream.errors import CannotHandOver, ConfigError, Unavailable

FORGOTTEN_IN_A_BATCH = 500
"""Idle users and channels that one write deletes: 6 ms, for which a publish may wait (measured)."""


class SqliteEngine:
    """An engine that keeps everything in this process and in a file."""

    name = "sqlite"
    can_fail = True
    connects_at_once = False

    def __init__(
        self,
        path: Path,
        registry: Registry,
        clock: Clock,
        lifetimes: Lifetimes,
        new_id: Callable[[], str],
        new_epoch: Callable[[], str],
        outbox: OutboxSettings = OutboxSettings(),  # noqa: B008 - it is immutable
    ) -> None:
        """Create an engine.

        Args:
            path: the file; its directory must exist.
            new_epoch: returns text that no other log had, without a hyphen at its end.
            outbox: what the outbox keeps.
        """
        self.registry = registry
        self.cluster = SingleNode()
        self._path = path
        self._clock = clock
        self._lifetimes = lifetimes
        self._new_id = new_id
        self._new_epoch = new_epoch
        self._thread = ThreadPoolExecutor(1, "sqlite")
        calls = FileCalls(self._thread, lambda: self._file)
        self.time_series = SqliteTimeSeries(calls)
        self.outbox = SqliteOutbox(outbox, calls)
        self._restored: Sequence[RestoredConnection] = ()
        self._file: SqliteFile
        self._opened = ExitStack()
        self._log: LocalLog
        self._reads: LocalReads
        self._upkeep: Upkeep
        self._commits: GroupCommit
        self._users: UserChanges
        self._members: MemberChanges
        self._unwritten = Unwritten()
        self._has_left = False
        self._move = LocalMove(registry, clock)
        self._taken: TakenState | None = None

    @property
    def position(self) -> Position:
        return self._log.position

    @property
    def is_reachable(self) -> bool:
        """Whether the last write succeeded; after a failure each `collect` writes a row to find out."""
        return not self._commits.is_failing

    @property
    def is_partly_reachable(self) -> bool:
        return self.is_reachable

    @property
    def log_bytes(self) -> int:
        return self.registry.budget.used_bytes

    async def head(self, names: Iterable[str] | None = None, all_shards: bool = False) -> Position:
        return self.position

    # -- life

    async def start(self, receiver: Receiver) -> None:
        async with AsyncExitStack() as refused:
            refused.push_async_callback(self._release)
            left = await asyncio.get_running_loop().run_in_executor(self._thread, self._open)
            writer = SqliteWriter(
                self._log, self._upkeep, lambda: self._file, self.outbox, receiver, self._clock
            )
            self._commits = GroupCommit(writer, self._thread)
            self._users = UserChanges(self.registry, self._clock, self._log, self._commits, self._unwritten)
            self._members = MemberChanges(self._log, self._commits, self._users, self._unwritten)
            refused.push_async_callback(self._commits.close)
            for member in left:
                self._accept(leave_event(self._new_id(), member, self._clock.wall()))
            self.outbox.begin(self._commits, self.registry, self._restored, self._clock.wall())
            try:
                await self._commits.flush()
            except Unavailable as error:
                raise ConfigError(f"engine: {str(self._path)!r} cannot be written to") from error
            refused.pop_all()

    def _open_file(self) -> None:
        self._file = SqliteFile(self._path, self._new_epoch)
        self._opened.callback(self._file.close)

    def _open(self) -> list[Row]:
        """Open the file and restore its contents, unless another process has handed them over.

        Returns:
            The rows of the members of the last run that are connected no more.
        """
        self._open_file()
        self.outbox.opened(is_new_run=self._taken is None)
        if self._taken is not None:
            self._begin(self._taken, frozenset())
            return []
        self._file.rebuild()
        stored = self._file.read()
        restore = restore_from(stored, self.registry, self._clock, self._lifetimes, self._path)
        self._restored = restore.connections
        state = TakenState(stored.meta["epoch"], restore.offset, restore.clock_offset_s)
        self._begin(state, restore.history_rows)
        for orphan in restore.orphans:
            self._upkeep.track(orphan)
        return restore.left

    def _begin(self, state: TakenState, history_rows: frozenset[Entry]) -> None:
        begin = Position.single(state.epoch, state.offset)
        self._log = LocalLog(self.registry, self._clock, begin, self._lifetimes, self._accept)
        self._reads = LocalReads(self._log, self._clock)
        self._upkeep = Upkeep(self.registry, self._clock, state.clock_offset_s)
        self._upkeep.track_histories(history_rows)

    def _accept(self, event: Event) -> None:
        entry = self._log.assign(event)
        self._log.staged.add(entry)
        self._commits.batch().add(entry)

    async def _release(self) -> None:
        """Close the file, if it was opened, so that another server can use it; then end the thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._opened.close)
        self._thread.shutdown()

    async def close(self) -> None:
        if self._has_left:
            await self._commits.close()
            self._thread.shutdown()
            return
        await self._upkeep.schedule_all()
        with suppress(Unavailable):
            while self._upkeep.is_due:
                self._commits.batch()
                await self._commits.flush()
        await self._commits.close()
        await self._release()

    async def flush(self) -> None:
        """Return when everything that was accepted is delivered.

        Raises:
            Unavailable: it could not be written.
        """
        await self._commits.flush()

    # -- the move to another process

    @property
    def is_settled(self) -> bool:
        return not (self._commits.is_writing or self._log.announcements.waiting)

    async def copy(self) -> AsyncIterator[bytes]:
        if not self._move.is_copied:
            await self._check_file()
            yield self._address
        async for record in self._move.copy(self._log, self._upkeep.clock_offset_s):
            yield record

    async def _check_file(self) -> None:
        """Make sure that the other process can open the file; if that fails, this one can go on with it open."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._file.check_next)
        except ConfigError as error:
            raise CannotHandOver(str(error)) from error

    async def hand_over(self) -> AsyncIterator[bytes]:
        """Yield the rest of the state, and close the file: the other process does not have to read it."""
        try:
            await self._commits.flush()
        except Unavailable as error:
            raise CannotHandOver(error.message) from error
        self._file.is_rewritten_later = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._opened.close)
        self._has_left = True
        async for record in self._move.rest(self._log):
            yield record

    async def proceed(self) -> None:
        self._move.forget()
        if self._has_left:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._open_again)
            self._has_left = False

    def _open_again(self) -> None:
        """Open the file after another process has had it, and drop the events that it has written."""
        self._open_file()
        self._file.write([(DROP_LATER, [(self._log.committed,)])])

    def receive(self, record: bytes) -> None:
        if self._move.is_expected:
            self._move.receive(record)
        elif record == self._address:
            self._move.expect()
        else:
            raise CannotHandOver(OTHER_ENGINE)

    def build(self, left: Sequence[Leaving], connections: Sequence[RestoredConnection]) -> None:
        self._move.build(left, connections)

    def take_over(self) -> None:
        self._taken = self._move.finish()

    def begin(self) -> None:
        """Do nothing: there are no other nodes."""

    @property
    def _address(self) -> bytes:
        return f"sqlite {self._path.resolve()}".encode()

    # -- the port

    async def publish(self, events: Sequence[Event]) -> list[Accepted]:
        self._commits.check_room()
        accepted = self._log.publish(events)
        await self._commits.flush()
        return accepted

    def publish_at_once(self, event: Event) -> None:
        """Return None: an event is accepted when it is on the disk."""

    def divide(self, event: Event) -> AsyncIterator[Event]:
        return self._log.divide(event)

    def replay(self, user: str, from_offsets: Mapping[str, int], limit: int) -> Coroutine[None, None, Replay]:
        return self._reads.replay(user, from_offsets, limit)

    def nothing_after(self, user: str, from_offsets: Mapping[str, int], *, strict: bool) -> Offsets | None:
        return self._reads.nothing_after(user, from_offsets, strict=strict)

    async def catch_up(self, shards: Iterable[int]) -> None:
        """Do nothing: an event is delivered as soon as its offset is committed."""

    async def connect(
        self,
        member: Member,
        update: UserUpdate,
        channels: Mapping[str, Mapping[str, Any]] = NO_CHANNELS,
        since: Position | None = None,
    ) -> Registered | None:
        return await self._members.connect(member, update, channels, since)

    def connect_at_once(self, *_: Any) -> None:
        """Return None: a registration is written before it is answered."""

    async def restored_connections(self) -> Sequence[RestoredConnection]:
        restored, self._restored = self._restored, ()
        return restored

    async def update_user(self, name: str, update: UserUpdate) -> UserChange | None:
        await self._users.settled(name)
        self._commits.check_room()
        if name not in self.registry.users:
            return None
        with self._users.change(name, connected=False) as batch:
            change = self._log.update_user(name, update)
        await self._users.written(name, batch)
        return change

    async def configure(self, patches: Mapping[str, Mapping[str, Any]]) -> None:
        self._commits.check_room()
        batch = self._commits.batch()
        batch.undo.append(
            undo_channels(self.registry, list(patches), self._clock, lambda: self._log.committed)
        )
        self._log.configure(patches)
        batch.channels.update(patches)
        self._unwritten.track([("channel", name) for name in patches], batch.done)
        await self._commits.flush()
        await self._log.free_cut()

    async def join(
        self, member: Member, channels: Mapping[str, Mapping[str, Any]], since: Position | None = None
    ) -> dict[str, int]:
        return await self._members.join(member, channels, since)

    async def leave(self, member: Member, channels: Sequence[str]) -> None:
        await self._members.leave(member, channels)

    async def disconnect(self, member: Member, channels: Sequence[str]) -> None:
        await self._members.disconnect(member, channels)

    async def disconnect_all(self, leaving: Sequence[Leaving]) -> None:
        await self._members.disconnect_all(leaving)

    async def channels(self, names: Sequence[str] | None, with_users: bool = True) -> list[Channel]:
        return self._reads.channels(names)

    async def channels_at(
        self, names: Sequence[str], with_users: bool = True
    ) -> tuple[list[Channel], Position]:
        return self.channels_at_once(names)

    def channels_at_once(self, names: Sequence[str]) -> tuple[list[Channel], Position]:
        return self._reads.channels(names), self.position

    async def users(self, names: Sequence[str] | None, with_channels: bool = True) -> list[User]:
        return self._reads.users(names)

    async def counts(self) -> Counts:
        return self._reads.counts

    async def states(self, members: Mapping[str, str]) -> list[User]:
        return self._reads.users(list(members))

    async def members_at(self, channel: str) -> MembersAt:
        found = self._reads.members_at(channel)
        await self._commits.flush()
        return found

    async def collect(self) -> None:
        await self._log.sweep()
        await self._forget()
        await self._upkeep.schedule_all()
        self._commits.batch()

    async def _forget(self) -> None:
        """Forget idle users and channels, some in each write, so that no publish waits until very many are deleted."""
        with suppress(Unavailable):  # The next `collect` forgets the rest.
            while await self._log.collect(self._forgotten, FORGOTTEN_IN_A_BATCH):
                await self._commits.flush()

    def _forgotten(self, forgotten: Forgotten) -> None:
        batch = self._commits.batch()
        batch.forgotten_channels.update(forgotten.channels)
        batch.forgotten_users.update(forgotten.users)
