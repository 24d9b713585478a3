"""Compaction: what remains of an event once a later one supersedes it.

An event may name what it `supersedes`. Whoever replays a log is sent the present form of what was superseded, at its old
place, and never a past one: an edited message has its newest text, a deleted one is gone. The event that supersedes stays
in the log, for those who have received the older form; so no position becomes invalid, and nothing is missing.

A change that is meant for some users only supersedes the older event for these users: the others keep it. Who is
excluded from a change is not sent it, but is not sent the older form either.
"""

from collections.abc import Iterable
from typing import TypeVar

from msgspec.structs import replace

from channelstream.core.events import Event, Message, MessageDeleted, MessageEdited, Names

MAX_EXCLUDED = 1000
"""Users a message for everybody may be taken back from one by one; with more it leaves the log, lost for the others."""

_E = TypeVar("_E", bound=Event)


def covers(change: Event, event: Event) -> bool:
    """Whether everybody `event` is for is among those `change` is about."""
    if change.only is None:
        return True
    return event.only is not None and event.only - (event.exclude or frozenset()) <= change.only


def without(event: _E, names: Names | None) -> _E | None:
    """Return an event for those it is for besides `names` (None: everybody); None where nobody is left."""
    if names is None:
        return None
    if event.only is None:
        exclude = (event.exclude or frozenset()) | names
        return event if exclude == event.exclude else replace(event, exclude=exclude)
    only = event.only - names
    if not only - (event.exclude or frozenset()):
        return None
    return event if only == event.only else replace(event, only=only)


def current(event: Event, change: Event) -> Event | None:
    """Return the present form of an event for those the change is about; None: nothing of it is sent any more."""
    if isinstance(change, MessageEdited):
        if isinstance(event, Message):
            return replace(
                event,
                edited=change.edited,
                user=change.user or event.user,
                payload=event.payload if change.payload is None else change.payload,
                timestamp=change.timestamp or event.timestamp,
            )
        return event if isinstance(event, MessageDeleted) else None
    return None


def present(event: Event, change: Event) -> Event | None:
    """Return what a log keeps of an event; None: it leaves the log."""
    if covers(change, event):
        return current(event, change)
    rest = without(event, change.only)
    return None if rest is not event and _is_too_long(rest) else rest


def _is_too_long(event: Event | None) -> bool:
    return event is not None and len(event.exclude or ()) > MAX_EXCLUDED


def loses(change: Event, event: Event) -> bool:
    """Whether a log keeps nothing of an event although somebody it is for still needs it: too many are taken out of it."""
    return not covers(change, event) and present(event, change) is None


def merged(change: Event, older: Event) -> Event:
    """Return a change as the log keeps it: an edit also says what an older one has changed, whose place it takes."""
    both_edit = isinstance(change, MessageEdited) and isinstance(older, MessageEdited)
    if not (both_edit and covers(older, change)):
        return change
    assert isinstance(change, MessageEdited)  # noqa: S101 - for the types
    assert isinstance(older, MessageEdited)  # noqa: S101
    return replace(
        change,
        user=change.user or older.user,
        payload=older.payload if change.payload is None else change.payload,
        timestamp=change.timestamp or older.timestamp,
    )


def unknown_part(event: _E, known: Iterable[Event]) -> _E | None:
    """Return an event for those of its audience that none of the known events is for; None where there is nobody."""
    rest: _E | None = event
    for each in known:
        if rest is None:
            break
        rest = without(rest, each.only)
    return rest


def affects(change: Event, event: Event) -> bool:
    """Whether somebody the event is for is among those the change is about."""
    return covers(change, event) or without(event, change.only) is not event


def first_form(message: Message, known: Iterable[Event]) -> Message | None:
    """Return the present form of a message that is published again; None where it was deleted.

    Args:
        known: what there is about its uuid.
    """
    form: Event | None = message
    for each in known:
        if isinstance(each, Message):
            return each
        form = form and current(form, each)
    assert form is None or isinstance(form, Message)  # noqa: S101 - a message stays one
    return form
