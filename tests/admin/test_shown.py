"""What the admin pages show of a connection."""

from channelstream.admin.shown import transport_of
from channelstream.core.connection import Connection, Step
from channelstream.wire.channelstream import V07


def test_a_connection_without_a_stream_in_this_run_has_no_transport() -> None:
    """A new one, and one that was restored after a restart: the file does not keep its last transport."""
    new, restored = (Connection("c", "ann", V07, (0,), 15.0) for _ in range(2))
    restored.move(Step.RESTORE)
    assert (transport_of(new), transport_of(restored)) == ("", "")
