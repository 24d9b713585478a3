"""The errors of a file that takes no writes."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from channelstream.engines.sqlite_faults import NotWritten

WRITE = "INSERT INTO t VALUES (zeroblob(100000))"


def test_a_file_that_cannot_grow_is_a_full_disk(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "f.db")) as file:
        file.execute("CREATE TABLE t (x)")
        file.execute("PRAGMA max_page_count = 2")
        with pytest.raises(sqlite3.OperationalError) as full:
            file.execute(WRITE)
    assert str(NotWritten(full.value)).startswith("the disk is full: make room on it (")


def test_a_file_that_may_not_be_written_to_is_named_as_that(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "f.db")) as file:
        file.execute("CREATE TABLE t (x)")
        file.execute("PRAGMA query_only = ON")
        with pytest.raises(sqlite3.OperationalError) as read_only:
            file.execute(WRITE)
    assert "read-only" in str(NotWritten(read_only.value))


def test_other_errors_have_the_text_of_sqlite() -> None:
    assert str(NotWritten(sqlite3.OperationalError("no such table: t"))) == "no such table: t"
