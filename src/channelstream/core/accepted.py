"""What becomes of a published event.

Not in `core.log`, whose modules a build may compile: one is made for each event, and a msgspec Struct, which a compiled
module cannot define, costs a third of a named tuple.
"""

from msgspec import Struct

from channelstream.core.events import Event


class Accepted(Struct, frozen=True, gc=False):
    """The outcome of one published event.

    Attributes:
        event: the event as it was published; for a duplicate, the current form of the message that the log has.
        duplicate: nothing was delivered, since every recipient has the message already, or it was deleted for all of them
            (then not `found`).
        found: whether the log or the history has the message, the one that is edited, deleted or published again, or an edit
            that came after it.
    """

    event: Event
    duplicate: bool
    found: bool
