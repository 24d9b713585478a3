"""What the log accepts of a published event, by the events that it has about the same message.

A message is a duplicate for the users who have it, or its deletion. An edit may come before its message: from another
node, or while a message to very many users is accepted for some of them after the others. Such an edit is `early`. The
message is no duplicate then: it is accepted in its edited form, after the edit.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from channelstream.core.accepted import Accepted
from channelstream.core.compaction import (
    affects,
    edited_message,
    first_form,
    for_users,
    unknown_part,
    without,
)
from channelstream.core.events import Event, Message, MessageDeleted, MessageEdited, Names


def accept(event: Event, known: Sequence[Event]) -> tuple[Accepted, Sequence[Event]]:
    """Return the outcome of a published event, and the events that enter the log.

    Args:
        known: what the log has about the same message, in its current form.
    """
    if isinstance(event, Message):
        if known:
            return _accept_message(event, known)
        return Accepted(event, duplicate=False, found=False), [event]
    # An edit that is not early came after the message: its users have had that, though their log may not have it any more.
    kept = [
        each
        for each in known
        if isinstance(each, Message) or (isinstance(each, MessageEdited) and not each.early)
    ]
    found = any(affects(event, each) for each in kept)
    if not isinstance(event, MessageEdited):
        return Accepted(event, duplicate=False, found=found), [event]
    rest = _undeleted(event, [each for each in known if isinstance(each, MessageDeleted)])
    accepted = Accepted(event, duplicate=rest is None, found=found)
    return accepted, [] if rest is None else split_early(rest, kept)


def _undeleted(edit: MessageEdited, deletions: Sequence[MessageDeleted]) -> MessageEdited | None:
    """Return an edit for its users for whom the message is not deleted; None if there are none.

    Those whom it excludes count as well: they are not sent it, nor the older text.
    """
    if edit.only is None or edit.exclude is None:
        return unknown_part(edit, deletions)
    left = unknown_part(replace(edit, exclude=None), deletions)
    return None if left is None else for_users(edit, left.only or frozenset())


def _accept_message(message: Message, known: Sequence[Event]) -> tuple[Accepted, Sequence[Event]]:
    early, others = list[MessageEdited](), list[Event]()
    for each in known:
        if isinstance(each, MessageEdited) and each.early:
            early.append(each)
        else:
            others.append(each)
    rest = unknown_part(message, others)
    if rest is not None:
        return Accepted(message, duplicate=False, found=bool(others)), late_forms(rest, early)
    first = first_form(message, known)
    return Accepted(first or message, duplicate=True, found=first is not None), []


def split_early(edit: MessageEdited, messages: Sequence[Message | MessageEdited]) -> list[MessageEdited]:
    """Return an edit for the users who have one of the messages, and an early one for those who have none.

    Args:
        messages: and the edits that came after them.
    """
    if not messages:
        return [replace(edit, early=True)]
    if edit.only is None or any(message.only is None for message in messages):
        return [edit]
    waiting = edit.only.difference(*(message.only or () for message in messages))
    if not waiting:
        return [edit]
    early = replace(for_users(edit, waiting), early=True)
    return [early] if waiting == edit.only else [for_users(edit, edit.only - waiting), early]


def late_forms(message: Message, early: Sequence[MessageEdited]) -> list[Message]:
    """Return a message as it is accepted after early edits: in its edited form for the users of each edit.

    Each user has one edit at most: in the log a newer one takes over what an older one has changed (`merged`).
    """
    for_some = [edit for edit in early if edit.only is not None]
    names = frozenset[str]().union(*(edit.only or () for edit in for_some))
    rest = without(message, names) if names else message
    for edit in early:
        if rest is not None and edit.only is None:
            rest = edited_message(rest, edit)
    forms = [] if rest is None else [rest]
    for edit in for_some:
        form = _part_for(message, edit.only or frozenset())
        if form.addressees:
            forms.append(edited_message(form, edit))
    return forms


def _part_for(message: Message, names: Names) -> Message:
    return for_users(message, names if message.only is None else names & message.only)
