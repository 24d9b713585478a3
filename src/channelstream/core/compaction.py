"""Compaction: what remains of an event once a later one supersedes it.

A change (an edit or a deletion) names the event that it `supersedes`. From then on that event is replayed in its
current form, at its old offset, and never in a past one: an edited message has its newest text, a deleted one is not
sent. The change itself stays in the log, for clients that have received the older form. So every position stays
valid, and no client misses anything.

A change for some users supersedes the older event for these users only. A user excluded from a change is not sent the
change, and is not sent the older form either.
"""

from collections.abc import Iterable, Sequence
from typing import TypeVar, assert_never

from msgspec.structs import replace

from channelstream.core.events import (
    Event,
    Message,
    MessageDeleted,
    MessageEdited,
    Names,
    Presence,
    UsersLeft,
    UserStateChanged,
)

MAX_EXCLUDED = 1000
"""Users for whom a message of the whole channel may be deleted one by one; with more, the log drops it for everyone."""
MAX_PARTS = 10
"""Most parts of an edit in a channel that takes over older ones, each for other users: every part looks at all of them."""

_E = TypeVar("_E", bound=Event)


def covers(change: Event, event: Event) -> bool:
    """Whether the change is for all recipients of the event."""
    if change.only is None:
        return True
    return event.only is not None and event.addressees <= change.only


def without(event: _E, names: Names | None) -> _E | None:
    """Return the event without the recipients `names` (None: all of them); None if no recipient is left."""
    if names is None:
        return None
    if event.only is None:
        exclude = (event.exclude or frozenset()) | names
        return event if exclude == event.exclude else replace(event, exclude=exclude)
    only = event.only - names
    if not only - (event.exclude or frozenset()):
        return None
    return event if only == event.only else replace(event, only=only)


def for_users(event: _E, names: Names) -> _E:
    """Return the event for these users only."""
    return replace(event, only=names, exclude=(event.exclude or frozenset()) & names or None)


def current(event: Event, change: Event) -> Event | None:
    """Return the form of an event after a change, for the recipients of the change; None: it is no longer sent."""
    match change:
        case MessageEdited():
            return _edited(event, change)
        case MessageDeleted():
            return None
        case Message() | Presence() | UsersLeft() | UserStateChanged():
            return event  # These supersede nothing.
        case _:
            assert_never(change)


def _edited(event: Event, change: MessageEdited) -> Event | None:
    match event:
        case Message():
            return edited_message(event, change)
        case MessageEdited():
            return _overlaid(event, change) if _has_more(event, change) else None
        case MessageDeleted() | Presence() | UsersLeft() | UserStateChanged():
            return event  # What is deleted stays deleted; the others cannot be edited.
        case _:
            assert_never(event)


def edited_message(message: Message, change: MessageEdited) -> Message:
    """Return the form of a message after an edit."""
    return replace(
        message,
        edited=change.edited,
        user=change.user or message.user,
        payload=message.payload if change.payload is None else change.payload,
        timestamp=change.timestamp or message.timestamp,
    )


def _has_more(older: MessageEdited, newer: MessageEdited) -> bool:
    """Whether an edit has changed what a newer one leaves as it is."""
    return (
        (newer.payload is None and older.payload is not None)
        or (newer.user is None and older.user is not None)
        or (newer.timestamp is None and older.timestamp is not None)
    )


def _overlaid(older: MessageEdited, newer: MessageEdited) -> MessageEdited:
    return replace(
        older,
        edited=newer.edited,
        user=newer.user or older.user,
        payload=older.payload if newer.payload is None else newer.payload,
        timestamp=newer.timestamp or older.timestamp,
    )


def retained(event: Event, change: Event) -> Event | None:
    """Return what the log keeps of an event after a change (`merged`); None: it leaves the log."""
    if covers(change, event):
        left = None if takes_over(change, event) else current(event, change)
        return _of_excluded(change, event) if left is None else left
    rest = without(event, change.only)
    return None if rest is not event and _is_too_long(rest) else rest


def _of_excluded(change: Event, event: _E) -> _E | None:
    """Return an older private change for the users whom it excludes, if a change is for all others: they had the message."""
    if event.channel is not None or event.supersedes is None or event.only is None or change.only is None:
        return None
    names = event.only - change.only
    return for_users(event, names) if names else None


def _is_too_long(event: Event | None) -> bool:
    return event is not None and len(event.exclude or ()) > MAX_EXCLUDED


def loses(change: Event, event: Event) -> bool:
    """Whether recipients still need what the log drops: a message that excludes too many, or a part of an older edit."""
    if covers(change, event):
        return False
    return retained(event, change) is None or (
        change.channel is not None and bool(_who_would_lose(event, change))
    )


def takes_over(change: Event, older: Event) -> bool:
    """Whether a change is an edit that takes over what an older edit has changed: that was for all its recipients.

    An edit that was for some of them only stays, with what the newer edit has changed.
    """
    if not (isinstance(change, MessageEdited) and isinstance(older, MessageEdited) and covers(older, change)):
        return False
    excluded = older.exclude or frozenset()
    return (
        excluded <= (change.exclude or frozenset())
        if change.only is None
        else excluded.isdisjoint(change.only)
    )


def merged(change: Event, olders: Sequence[Event]) -> Event:
    """Return a change as the log keeps it: an edit takes over what older edits have changed, and replaces them.

    Args:
        olders: the events about the same message, oldest first: of two edits the newer one counts.
    """
    kept = change
    for older in reversed(olders):
        if isinstance(kept, MessageEdited) and isinstance(older, MessageEdited) and takes_over(kept, older):
            kept = replace(_overlaid(older, kept), only=kept.only, exclude=kept.exclude, early=kept.early)
    return kept


def by_older_edits(edit: MessageEdited, known: Iterable[Event]) -> list[MessageEdited]:
    """Divide an edit where an older one is for some of its users, and for others: the former take over that edit alone.

    In a channel into a few parts only (`MAX_PARTS`): beyond them, the older edits are lost (`loses`).

    Args:
        known: the events about the same message.
    """
    parts, rest = list[MessageEdited](), edit
    for older in known:
        if rest.channel is not None and len(parts) == MAX_PARTS - 1:
            break
        if both := _who_would_lose(older, rest):
            parts.append(for_users(rest, both))
            rest = for_users(rest, (rest.only or both) - both)
    return [*parts, rest]


def _who_would_lose(older: Event, newer: Event) -> Names:
    """Return those users of an edit who lose what an older one has changed, unless they take it over by an edit alone."""
    if not (
        isinstance(older, MessageEdited) and isinstance(newer, MessageEdited) and _has_more(older, newer)
    ):
        return frozenset()
    if newer.only is None or takes_over(newer, older):
        return frozenset()
    # The logs of users may have a private edit for more users than are known here.
    if newer.channel is not None and covers(newer, older):
        return frozenset()
    both = newer.only if older.only is None else newer.only & older.only
    return both - older.exclude if older.exclude else both


def unknown_part(event: _E, known: Iterable[Event]) -> _E | None:
    """Return an event for its recipients that are recipients of none of the known events; None if there are none."""
    rest: _E | None = event
    for other in known:
        if rest is None:
            break
        rest = without(rest, other.only)
    return rest


def affects(change: Event, event: Event) -> bool:
    """Whether the change is for at least one recipient of the event."""
    return covers(change, event) or without(event, change.only) is not event


def first_form(message: Message, known: Sequence[Event]) -> Message | None:
    """Return the current form of a message that is published again; None if it was deleted.

    Where users have different forms of it, that is rather one without edits.

    Args:
        known: the logged events with its uuid, oldest first.
    """
    messages = [other for other in known if isinstance(other, Message)]
    if messages:
        return min(messages, key=_is_edited)
    edits = [other for other in known if isinstance(other, MessageEdited)]
    for edit in edits:  # They are for users who still have it.
        message = edited_message(message, edit)
    return message if edits or not known else None


def _is_edited(message: Message) -> bool:
    return message.edited is not None
