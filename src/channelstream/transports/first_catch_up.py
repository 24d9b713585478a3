"""What a client is sent as its stream opens, before it is live: what it resumes with, and what it missed."""

from channelstream.core.batch import BufferBatch
from channelstream.core.position import Position
from channelstream.transports.catch_up import CatchUp
from channelstream.transports.reading import Attached
from channelstream.transports.resuming import Resumption


async def catch_up_first(attached: Attached, buffer: BufferBatch, since: str | None) -> None:
    """Write what the client missed, and go live.

    Args:
        buffer: the connection's batch, which collects live events meanwhile.
        since: as in `Attachment.start`.

    Raises:
        Unavailable: the engine is out of reach, or the process sheds load.
    """
    connection, stream = attached.connection, attached.stream
    # Wait first. The application may choose the id, so a client may know it, and open its stream, before
    # `/connect` has registered the id. Or the connection has moved to this node, and is joining again the
    # channels that a shard has lost.
    if connection.joining:
        await attached.node.local.registered(connection)
        if not attached.is_current:
            return
    if since is None:
        catch_up = CatchUp(attached, buffer, stream.session.catchup_item)
        await catch_up.check_load({})
        await catch_up.run({}, strict=False)
        return
    resumption = await Resumption.of(attached, since, buffer)
    if resumption is None:
        return
    catch_up = CatchUp(attached, buffer, stream.format.item)
    await catch_up.check_load(resumption.starts)
    position = _send_resumed(attached, resumption)
    await catch_up.run(resumption.starts, strict=True)
    # A client that is sent the position which it has would, by its next poll, be sent the same loss again at once.
    if attached.is_current and (not since or (resumption.lost and position != since)):
        stream.caught_up()


def _send_resumed(attached: Attached, resumption: Resumption) -> str:
    """Send the client what it resumes with; return the position in it."""
    position = str(Position(resumption.epochs, attached.connection.delivered))
    recovered = resumption.recovered(attached.connection)
    if first := attached.stream.session.resumed(position, recovered, sorted(resumption.lost)):
        attached.stream.write_first(first)
    return position
