"""The faults of a body by field, and the sentence that says what to do about them."""

from typing import Any

Faults = dict[str, Any]
"""Validation faults by field, nested as the body is: ``{"channels": {"0": ["Not a valid string."]}}``."""
LONGEST_NAME = 100
"""Most characters of a client's text that an error repeats."""


def correction(faults: Faults) -> str:
    """Return what to do about the faults: the first one by name; the others are in `faults`."""
    path, fault = _first(faults)
    where = ".".join(path)[:LONGEST_NAME]
    more = "; `faults` has the others" if _has_more(faults) else ""
    return f"Nothing was done. Correct {where or 'the body'} and send it again: {fault.rstrip('.')}{more}."


def first_fault(faults: Faults) -> str:
    """Return the text of the first fault."""
    return _first(faults)[1]


def _first(faults: Faults) -> tuple[list[str], str]:
    """Return the path of the first fault in the body, and its text."""
    path: list[str] = []
    found: Any = faults
    while isinstance(found, dict):
        name, inner = next(iter(found.items()))
        if name != "_schema" and not (path and name == "value" and _is_entry(found) and not _is_entry(inner)):
            path.append(name)
        found = inner
    return path, found[0]


def _is_entry(found: Any) -> bool:
    """Whether these are faults of an entry of a free-form object, whose key and value are one level deeper."""
    return isinstance(found, dict) and found.keys() <= {"key", "value"}


def _has_more(faults: Faults) -> bool:
    found: Any = faults
    while isinstance(found, dict):
        if len(found) > 1:
            return True
        found = next(iter(found.values()))
    return len(found) > 1
