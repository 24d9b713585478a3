"""Compaction: what remains of an event once a later one supersedes it.

A change (an edit or a deletion) names the event that it `supersedes`. From then on that event is replayed in its
current form, at its old offset, and never in a past one: an edited message has its newest text, a deleted one is not
sent. The change itself stays in the log, for clients that have received the older form. So every position stays
valid, and no client misses anything.

A change for some users supersedes the older event for these users only. A user excluded from a change is not sent the
change, and is not sent the older form either.

What is dropped although some users need it raises the floor of the log (`loses`), so that they learn of the loss.
"""

from collections.abc import Iterable
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

_E = TypeVar("_E", bound=Event)


def covers(change: Event, event: Event) -> bool:
    """Whether the change is for all recipients of the event."""
    if change.only is None:
        return True
    return event.only is not None and event.only - (event.exclude or frozenset()) <= change.only


def holders(event: Event) -> Names:
    """Return the users in whose logs a private event is: of a change also those whom it excludes.

    They are not sent it, and no older form either, nor the message again.
    """
    if event.channel is None and event.supersedes is not None:
        return event.only or frozenset()
    return event.addressees


def is_for_others(change: Event, event: Event) -> bool:
    """Whether an event is only for users whom a change does not name: mostly a change that was made for them."""
    return change.only is not None and event.only is not None and change.only.isdisjoint(event.only)


def without(event: _E, names: Names) -> _E | None:
    """Return the event without the users `names`; None if nobody is left."""
    if event.only is None:
        exclude = (event.exclude or frozenset()) | names
        return event if exclude == event.exclude else replace(event, exclude=exclude)
    rest = event if names.isdisjoint(event.only) else replace(event, only=event.only - names)
    return rest if holders(rest) else None


def for_users(event: _E, names: Names) -> _E:
    """Return the event for these users only."""
    return replace(event, only=names, exclude=(event.exclude or frozenset()) & names or None)


def common(event: _E, change: Event) -> _E:
    """Return the event for those of its users who are named by a change, if both name some."""
    return event if event.only is None or change.only is None else for_users(event, event.only & change.only)


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
            # Where the newer edit is sent apart, it does not say what else this one has changed.
            form = overlaid(change, event)
            if form is change:
                return None
            return replace(form, only=event.only, exclude=event.exclude, early=event.early)
        case MessageDeleted() | Presence() | UsersLeft() | UserStateChanged():
            return event  # What is deleted stays deleted; the others cannot be edited.
        case _:
            assert_never(event)


def overlaid(change: _E, older: Event) -> _E:
    """Return an edit with what else an older edit has changed; the change itself if that is nothing."""
    if not (isinstance(change, MessageEdited) and isinstance(older, MessageEdited)):
        return change
    both = replace(
        change,
        user=change.user or older.user,
        payload=older.payload if change.payload is None else change.payload,
        timestamp=change.timestamp or older.timestamp,
    )
    return change if both == change else both


def edited_message(message: Message, change: MessageEdited) -> Message:
    """Return the form of a message after an edit."""
    return replace(
        message,
        edited=change.edited,
        user=change.user or message.user,
        payload=message.payload if change.payload is None else change.payload,
        timestamp=change.timestamp or message.timestamp,
    )


def retained(event: Event, change: Event) -> Event | None:
    """Return what the log keeps of an event after a change; None: it leaves the log."""
    if _is_for_all_holders(change, event):
        return None if isinstance(event, MessageEdited) else current(event, change)
    if _is_applied(change, event):
        return event
    rest = without(event, change.only or frozenset())
    return None if rest is not event and _is_too_long(rest) else rest


def _is_applied(change: Event, event: Event) -> bool:
    """Whether a message has the form of an edit that was for all its users: of both, some users may have left since.

    A restart applies edits again, in their order.
    """
    if (
        not isinstance(event, Message)
        or not isinstance(change, MessageEdited)
        or event.edited != change.edited
    ):
        return False
    return edited_message(event, change) == event


def _is_for_all_holders(change: Event, event: Event) -> bool:
    return covers(change, event) and (change.only is None or holders(event) <= change.only)


def _is_too_long(event: Event | None) -> bool:
    return event is not None and event.only is None and len(event.exclude or ()) > MAX_EXCLUDED


def loses(change: Event, event: Event) -> bool:
    """Whether the log drops what some recipients still need.

    That is an event that excludes more than `MAX_EXCLUDED`, or what an older edit has changed for some users only.
    """
    is_dropped = not _is_for_all_holders(change, event) and retained(event, change) is None
    return is_dropped or _cannot_take_over(change, event)


def _cannot_take_over(change: Event, older: Event) -> bool:
    """Whether an older edit has changed more, for some recipients of a newer edit, and not for all of them."""
    has_more = overlaid(change, older) is not change
    return has_more and affects(change, older) and not _is_for_all_of(older, change)


def _is_for_all_of(older: Event, change: Event) -> bool:
    """Whether an older event was for all users of a change; also for those whom both exclude, and none else."""
    excluded = (older.exclude or frozenset()) - (change.exclude or frozenset())
    if change.only is None:
        return older.only is None and not excluded
    return (older.only is None or change.only <= older.only) and excluded.isdisjoint(change.only)


def merged(change: Event, older: Event) -> Event:
    """Return a change as the log keeps it: an edit takes over what an older edit has changed, and replaces it."""
    return overlaid(change, older) if _is_for_all_of(older, change) else change


def superseded(known: Iterable[Event], change: Event) -> list[Event]:
    """Return what a newer event leaves of those about the same message, and the newer one as the log keeps it."""
    kept, rest = change, list[Event]()
    for older in known:
        left: Event | None = older
        if change.supersedes is not None and not is_for_others(change, older):
            kept, left = merged(kept, older), retained(older, change)
        if left is not None:
            rest.append(left)
    return [*rest, kept]


def unknown_part(event: _E, known: Iterable[Event]) -> _E | None:
    """Return an event for its recipients that are recipients of none of the known events; None if there are none."""
    names = set[str]()
    for other in known:
        if other.only is None:
            return None
        names |= other.only
    # All at once: the event would be copied for each known one.
    return without(event, frozenset(names)) if names else event


def affects(change: Event, event: Event) -> bool:
    """Whether the change is for at least one recipient of the event."""
    return covers(change, event) or without(event, change.only or frozenset()) is not event


def first_form(message: Message, known: Iterable[Event]) -> Message | None:
    """Return the current form of a message that is published again; None if it was deleted.

    Args:
        known: the logged events with its uuid.
    """
    form: Event | None = message
    for other in known:
        if isinstance(other, Message):
            return other
        form = form and current(form, other)
    assert form is None or isinstance(form, Message)  # noqa: S101 - a message stays one
    return form
