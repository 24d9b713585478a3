"""Checks of files: who else may read them, and whether the SQLite engine can write its own. And of descriptors."""

import os
import resource
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from channelstream.cli.doctor.finding import Finding, Subject, fault, warning
from channelstream.config import Settings
from channelstream.config.secret_file import FILES
from channelstream.descriptors import FEW_DESCRIPTORS, sockets_within
from channelstream.engines.factory import SQLITE, kind_of, sqlite_path
from channelstream.regular_file import mode_of

OTHERS_READ, OTHERS_WRITE, GROUP_WRITES = stat.S_IROTH, stat.S_IWOTH, stat.S_IWGRP


def has_private_files(subject: Subject) -> bool:
    return any(mode_of(path) for path in _private(subject))


def uses_sqlite(subject: Subject) -> bool:
    return kind_of(subject.settings.engine) is SQLITE


async def modes(subject: Subject) -> Iterable[Finding]:
    """Report files with secrets that others may read or change."""
    return [finding for path in _private(subject) if mode_of(path) for finding in _mode(path)]


def _private(subject: Subject) -> Iterator[Path]:
    settings = subject.settings
    of_apps = (getattr(own, option) for own in settings.of_each_app for option in FILES)
    names = (subject.ini, settings.ssl_keyfile, settings.keys_file, *of_apps)
    yield from (Path(name) for name in dict.fromkeys(names) if name)


def _mode(path: Path) -> Iterator[Finding]:
    mode = path.stat().st_mode
    if mode & (OTHERS_READ | OTHERS_WRITE):
        yield fault(
            f"every user of the machine may read or change {path}, which has secrets: mode {mode & 0o777:o}",
            f"chmod 640 {path}, with the server's group",
        )
    elif mode & GROUP_WRITES:
        yield warning(f"the group of {path} may change it: mode {mode & 0o777:o}", f"chmod 640 {path}")


async def sqlite(subject: Subject) -> Iterable[Finding]:
    """Report a directory in which the engine cannot work, and data that others may read."""
    named = sqlite_path(subject.settings.engine)
    path = named.absolute()
    return list(_unusable(path.parent, _creating(named)) or _readable(path))


def _creating(named: Path) -> str:
    """Return what to do about a missing directory: three slashes are a relative path, which is seldom meant."""
    advice = "create it for the server's user"
    return (
        advice if named.is_absolute() else f"{advice}, or write four slashes for /{named}: sqlite:////{named}"
    )


def _unusable(directory: Path, creating: str) -> list[Finding]:
    try:
        is_there = stat.S_ISDIR(directory.stat().st_mode)
    except PermissionError:
        is_there = True  # As far as this user can tell.
    except (OSError, ValueError):
        is_there = False
    if not is_there:
        return [fault(f"there is no directory {directory} for the SQLite file", creating)]
    if not os.access(directory, os.W_OK | os.X_OK):
        return [
            fault(f"this user may not write in {directory}", "run doctor as the server's user, or chown it")
        ]
    return []


def _readable(path: Path) -> Iterator[Finding]:
    """A directory that others may not enter protects its files. The server makes a new file for its own user only."""
    is_closed = not path.parent.stat().st_mode & stat.S_IXOTH
    if not is_closed and mode_of(path) & (OTHERS_READ | OTHERS_WRITE):
        yield fault(
            f"every user of the machine may read {path}, which has messages and the conn_id of each connection",
            f"chmod 700 {path.parent}",
        )


async def descriptors(subject: Subject) -> Iterable[Finding]:
    """Report a limit of this shell below what the options ask for; that of a running server is read from its metrics."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return list(too_few(hard, subject.settings))


def too_few(limit: int, settings: Settings) -> Iterator[Finding]:
    """Report a limit of open descriptors that is too low for the server with these settings.

    Args:
        limit: the hard limit of a process.
    """
    advice = "raise LimitNOFILE of the unit, or `ulimit -Hn`"
    most = sockets_within(limit, settings)
    if settings.max_connections > most:
        yield fault(
            f"max_connections is {settings.max_connections}, and a process with {limit} descriptors takes {most}",
            advice,
        )
    elif limit < FEW_DESCRIPTORS:
        yield warning(f"a process may open only {limit} descriptors: each client takes one", advice)
