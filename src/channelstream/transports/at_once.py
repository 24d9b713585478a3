"""Finds out without a wait whether a client misses nothing: then its stream is live in the loop turn that opens it.

Most streams that open miss nothing: their connection was registered a moment ago, or their client was away for a short
while. The way through `catch_up.py` has the same result, by several coroutines and with a buffer for events that arrive
meanwhile: a fifth of the cost of opening a stream. Here nothing is awaited, so no event can arrive meanwhile.
"""

from collections.abc import Mapping

from channelstream.core.position import Position, max_offsets
from channelstream.transports.reading import Attached, read_ranges
from channelstream.transports.resuming import resume_from
from channelstream.wire.client_session import ClientSession

SHARDS = {0}
"""The shards of a log that no other node shares."""


def first_bytes(attached: Attached, session: ClientSession, since: str | None) -> bytes | None:
    """Return what a client that misses nothing is sent first; None if it misses something, or that is not known at once.

    If it is not None, `connection.delivered` is the position up to which this node has delivered everything, so the
    connection can go live in this loop turn.

    Args:
        since: as in `Attachment.open`.
    """
    node, connection = attached.node, attached.connection
    if not node.is_single or connection.all_joining or attached.is_paused:
        return None
    if since is None:
        return b"" if _misses_nothing(attached) else None
    head = node.position
    starts = resume_from(connection, since, head, SHARDS)
    position = str(Position(head.epochs, connection.delivered))
    if not _has_nothing(attached, starts, strict=True):
        return None
    return session.resumed(position, sorted(starts), ())


def _misses_nothing(attached: Attached) -> bool:
    """Whether a client without a position, which is sent what the log still has, misses nothing."""
    connection = attached.connection
    if connection.delivered == attached.node.hub.offsets:
        return True
    (delivered,) = connection.delivered
    starts = {name: max(delivered, each.joined) for name, each in read_ranges(connection).items()}
    return _has_nothing(attached, starts, strict=False)


def _has_nothing(attached: Attached, starts: Mapping[str, int], *, strict: bool) -> bool:
    """Whether the log has nothing for a connection after these offsets.

    Args:
        strict: it must also reach back to all of them.
    """
    node, connection = attached.node, attached.connection
    head = node.reads.nothing_after(connection.user, starts, strict=strict)
    if head is None:
        return False
    offsets = node.hub.offsets
    if max_offsets(connection.delivered, head) != offsets:
        return False
    connection.delivered = offsets  # The same object for all, which is less memory.
    return True
