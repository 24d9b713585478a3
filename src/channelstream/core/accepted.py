"""What becomes of a published event.

Not in `core.log`, whose modules a build may compile: one is made for each event, and a msgspec Struct, which a compiled
module cannot define, costs a third of a named tuple.
"""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from channelstream.core.events import Event


class Accepted(Struct, frozen=True, gc=False):
    """The outcome of one published event.

    Attributes:
        event: the event as it was published; for a duplicate, the current form of the message that the log has.
        duplicate: nothing was delivered, since every recipient has the message already, or it was deleted for all of them
            (then not `found`).
        found: whether the log or the history has the message, the one that is edited, deleted or published again, or an edit
            that came after it.
        reaches_nobody: it is private, and all its users are excluded, or unknown to the log. Of an event in parts the others
            decide.
    """

    event: Event
    duplicate: bool
    found: bool
    reaches_nobody: bool = False


def combined(event: Event, parts: Sequence[Accepted]) -> Accepted:
    """Return the outcome of an event by those of its parts: it is a duplicate if all are that reach anybody."""
    if len(parts) == 1:
        return parts[0]
    reached = [part for part in parts if not part.reaches_nobody]
    duplicate, found = all(part.duplicate for part in reached), any(part.found for part in reached)
    if not (reached and duplicate):
        return Accepted(event, duplicate=False, found=found, reaches_nobody=not reached)
    known = next((part.event for part in reached if part.found), event)
    # That of a part names only its own users.
    return Accepted(replace(known, only=event.only, exclude=event.exclude), duplicate=True, found=found)
