"""The processes that a process of a test has started, what a process has open, and its memory."""

import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def children(pid: int) -> set[int]:
    """Return the living processes whose parent a process is, among them those it has adopted.

    Each process is asked for its parent: the list in /proc/PID/task/TID/children may lack some while others end (proc(5)).
    """
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            state, parent = _state_and_parent(folder)
            if int(parent) == pid and state != "Z":
                found.add(int(folder.name))
    return found


def zombies(pid: int) -> set[int]:
    """Return the processes that have ended and for whose exit code a process has not asked."""
    folders = [each for each in Path("/proc").iterdir() if each.name.isdecimal()]
    return {int(each.name) for each in folders if _state_and_parent(each) == ("Z", str(pid))}


def _state_and_parent(folder: Path) -> tuple[str, str]:
    """Return what proc(5) has of a process in fields 3 and 4; a name in the second may have spaces and parentheses."""
    try:
        state, parent, *_ = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "Z", "0"  # It has just ended.
    return state, parent


def links(pid: int) -> Iterator[str]:
    """Yield what the descriptors of a process are, which may open and close files meanwhile."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            yield str(link.readlink())


def resident_bytes(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()
