"""The file of the SQLite engine: opened once, by one server, and used by one thread.

Every write is one transaction. With `synchronous = FULL` it is on the disk when it is acknowledged: it survives not only
`kill -9` but a power failure (https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from channelstream.engines import sqlite_connections, sqlite_facts
from channelstream.engines.sqlite_faults import NotWritten, why_unusable
from channelstream.engines.sqlite_rows import PUT_META, SCHEMA, TIME_SERIES_SCHEMA, Bulk, Row
from channelstream.errors import ConfigError

APPLICATION_ID = 0x63687374
"""Marks a file as ours (SQLite's `application_id`): "chst"."""
VERSION = 1
"""The version of the tables; a file of another version is refused (SQLite's `user_version`)."""
BUSY_TIMEOUT_S = 2.0
"""How long a commit waits for another program that writes to the file, before it fails, in seconds."""
ROWS_AT_ONCE = 64
"""Rows in one statement. SQLite takes 32,766 parameters, and its cache keeps only some statements prepared."""
WAL_LIMIT_BYTES = 64 << 20
"""The length to which the write-ahead log is truncated when it was longer."""
CONNECTIONS_OF = "connections"
"""The key in `meta` that names the run whose connections the file has; a version that keeps none leaves it as it is."""
LOCK_BYTES = 256
"""Bytes that are read of the file with the names of runs."""
ERASED = "erased"
"""The key in `meta` that says whether anything was erased since the file was rewritten."""

Writes = Sequence[tuple[Bulk, Sequence[Row]]]
"""The statements of one transaction with their rows, in order."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The contents of a file."""

    meta: dict[str, str]
    channels: list[Row] = field(default_factory=list)
    users: list[Row] = field(default_factory=list)
    members: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    history: list[Row] = field(default_factory=list)
    connections: list[Row] = field(default_factory=list)
    subscriptions: list[Row] = field(default_factory=list)


NOT_AT_ITS_PATH = "was replaced or removed while the server has it open: put it back"


class SqliteFile:
    """An open file. All methods are called by the thread that made it."""

    def __init__(self, path: Path, new_epoch: Callable[[], str]) -> None:
        """Open the file, or create it.

        Args:
            new_epoch: returns the epoch for a new file, or for a file that is not the one a server last used here, such as a
                backup: positions given out after the backup must not be taken for positions of this log.

        Raises:
            ConfigError: it cannot be used.
        """
        self._path = path
        self._has_erased = self._has_moved = True
        self.is_rewritten_later = False
        """Whether `close` leaves it to the next server to remove erased texts, which takes long."""
        with self._as_config_error(), ExitStack() as stack:
            # SQLite names its log after the target of a symbolic link, so the lock file lies beside the target, too.
            self._database_lock = _lock(path, path)
            stack.callback(os.close, self._database_lock)
            self._lock = _lock(Path(f"{path.resolve()}-lock"), path)
            stack.callback(os.close, self._lock)
            self._database = self._open(new_epoch)
            stack.pop_all()

    def _open(self, new_epoch: Callable[[], str]) -> sqlite3.Connection:
        database = sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, cached_statements=512
        )
        try:
            self._database = database
            self._prepare()
            self._name_run(new_epoch)
        except BaseException:
            database.close()
            raise
        return database

    def _prepare(self) -> None:
        self._check_format()
        (mode,) = self._database.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise ConfigError(f"engine: {str(self._path)!r} is where SQLite cannot keep a write-ahead log")
        self._database.execute("PRAGMA synchronous = FULL")
        # Deleted rows are overwritten with zeros, so that a deleted text is no longer in the file.
        self._database.execute("PRAGMA secure_delete = ON")
        self._database.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
        if not self._pragma("user_version"):
            self._database.executescript(
                f"BEGIN; {SCHEMA} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
            )
        self._database.executescript(sqlite_connections.SCHEMA + TIME_SERIES_SCHEMA)
        sqlite_facts.prepare(self._database)

    def _check_format(self) -> None:
        version = self._pragma("user_version")
        (tables,) = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables and not version:
            return
        if self._pragma("application_id") != APPLICATION_ID:
            raise ConfigError(f"engine: {str(self._path)!r} is a database of another program")
        if version != VERSION:
            raise ConfigError(
                f"engine: {str(self._path)!r} has format {version}, and this version of channelstream "
                f"reads format {VERSION} only"
            )

    def _pragma(self, name: str) -> int:
        (value,) = self._database.execute(f"PRAGMA {name}").fetchone()
        return int(value)

    def _name_run(self, new_epoch: Callable[[], str]) -> None:
        """Write the name of this run into the file and beside it; begin a new epoch if the two names differ.

        Connections that the last run has not written are dropped. A kill in between changes nothing: beside the file are the
        names of both runs until the file has the new one.
        """
        names = f"('run', 'epoch', '{CONNECTIONS_OF}')"
        meta = dict(self._database.execute(f"SELECT key, value FROM meta WHERE key IN {names}"))  # noqa: S608 - names of our own
        run, epoch, last_run = new_epoch(), meta.get("epoch"), meta.get("run")
        is_continued = str(last_run).encode() in os.pread(self._lock, LOCK_BYTES, 0).split(b"\n")
        if not (epoch and isinstance(epoch, str) and is_continued):
            epoch = run
        if epoch == run or meta.get(CONNECTIONS_OF) != last_run:
            for statement in sqlite_connections.EMPTY_TABLES:
                self._database.execute(statement)
        os.pwrite(self._lock, f"{run}\n{last_run}\n".encode() if is_continued else run.encode(), 0)
        os.fsync(self._lock)
        self.write([(PUT_META, [("run", run), ("epoch", epoch), (CONNECTIONS_OF, run)])])
        os.ftruncate(self._lock, len(run))
        os.fsync(self._lock)

    @contextmanager
    def _as_config_error(self) -> Iterator[None]:
        """Raise errors of the file as ConfigError."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"engine: {str(self._path)!r} cannot be used: {why_unusable(error)}") from error

    def read(self) -> Stored:
        """Return everything, events in the order of the log.

        Raises:
            ConfigError: the file is damaged.
        """
        with self._as_config_error():
            return Stored(
                dict(self.rows("SELECT key, value FROM meta")),
                self.rows("SELECT * FROM channels ORDER BY last_active NULLS LAST"),
                self.rows("SELECT * FROM users ORDER BY last_active NULLS LAST"),
                self.rows("SELECT * FROM members ORDER BY channel, user"),
                self.rows("SELECT * FROM events ORDER BY seq"),
                self.rows("SELECT * FROM history ORDER BY seq"),
                self.rows(sqlite_connections.READ_CONNECTIONS),
                self.rows(sqlite_connections.READ_SUBSCRIPTIONS),
            )

    def rows(self, sql: str, *values: object) -> list[Row]:
        """Return all rows of a query.

        Raises:
            sqlite3.Error: they cannot be read.
        """
        return self._database.execute(sql, values).fetchall()

    def write(self, writes: Writes, erases: bool = False) -> None:
        """Write all of it, or nothing.

        Args:
            erases: it deletes texts, which `empty_wal` and `rebuild` then remove from the files as well.

        Raises:
            NotWritten: nothing was written.
        """
        if not self._is_at_its_path():  # SQLite would write to the file that nobody finds again.
            raise NotWritten(OSError(f"it {NOT_AT_ITS_PATH}"))
        if erases:
            writes = [*writes, (PUT_META, [(ERASED, 1)])]
        try:
            self._transact(writes)
        except sqlite3.Error as error:
            raise NotWritten(error) from error
        self._has_erased = self._has_erased or erases
        self._has_moved = self._has_moved or erases

    def _transact(self, writes: Writes) -> None:
        with closing(self._database.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            try:
                for bulk, rows in writes:
                    _execute(cursor, bulk, rows)
                cursor.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    cursor.execute("ROLLBACK")
                raise

    def check_next(self) -> None:
        """Make sure that the process that opens the file next finds this one, and can write to it.

        Raises:
            ConfigError: another file or none is at its path, or it cannot be written to.
        """
        with self._as_config_error():
            if not self._is_at_its_path():
                raise ConfigError(f"engine: {str(self._path)!r} {NOT_AT_ITS_PATH}")
            # A new write-ahead log needs room on the disk, which this one may have already.
            self._truncate_wal()
            # By another connection, since this one does not read again what it has in memory.
            with closing(sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as other:
                other.execute("UPDATE meta SET value = value WHERE key = 'run'")

    def _is_at_its_path(self) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._database_lock))
        except OSError:
            return False

    def empty_wal(self) -> None:
        """Truncate the write-ahead log, which still has erased texts; a program that reads the file delays this."""
        if self._has_erased:
            self._has_erased = not self._truncate_wal()

    def _truncate_wal(self) -> bool:
        """Return whether the write-ahead log is empty now, without a wait for a program that reads the file."""
        self._database.execute("PRAGMA busy_timeout = 0")
        try:
            (is_busy, _, _) = self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error:
            is_busy = True
        finally:
            self._database.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000:.0f}")
        return not is_busy

    def rebuild(self) -> None:
        """Rewrite the file if anything was erased since the last rewrite.

        SQLite overwrites the rows it deletes, but not the copies it leaves when it moves rows between pages.
        """
        if not self._has_moved:
            return
        # The disk is full, the file is being read, or it is not at its path: the next call does it.
        with suppress(sqlite3.Error, NotWritten):
            if self.rows("SELECT 1 FROM meta WHERE key = ? AND value = 1", ERASED):
                self._database.execute("VACUUM")
                self.write([(PUT_META, [(ERASED, 0)])])
                self._has_erased = True
            self._has_moved = False
        self.empty_wal()

    def close(self) -> None:
        """Close the file; SQLite then empties its write-ahead log."""
        with ExitStack() as stack:
            stack.callback(os.close, self._database_lock)
            stack.callback(os.close, self._lock)
            stack.callback(self._database.close)
            if not self.is_rewritten_later:
                self.rebuild()


def _execute(cursor: sqlite3.Cursor, bulk: Bulk, rows: Sequence[Row]) -> None:
    for begin in range(0, len(rows), ROWS_AT_ONCE):
        batch = rows[begin : begin + ROWS_AT_ONCE]
        cursor.execute(bulk.sql(len(batch)), [value for row in batch for value in row])


def _lock(file: Path, database: Path) -> int:
    """Lock a file for this process and return its descriptor, which must stay open.

    flock(2) applies to the inode, whatever name led to it: two servers that open one database by two names would
    write two logs for it. It does not exclude backups, for which SQLite has its own locks. The descriptor of the
    database is closed last, since closing any of its descriptors drops SQLite's own locks (fcntl(2)).

    Raises:
        ConfigError: another process has it.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigError(
            f"engine: {str(database)!r} is in use by another server; stop that one, or name another file"
        ) from None
    return descriptor
