"""What the admin pages show of a connection."""

from channelstream.admin.shown import transport_of
from channelstream.core.connection import Connection, Step
from channelstream.wire.channelstream import V07


def test_a_connection_without_a_stream_in_this_run_has_no_transport() -> None:
    """A new one; one that was restored after a restart, as the file does not keep its last transport; one that has ended."""
    new, restored, ended = (Connection("c", "ann", V07, (0,), 15.0) for _ in range(3))
    restored.move(Step.RESTORE)
    ended.move(Step.CLOSE)
    assert [transport_of(each) for each in (new, restored, ended)] == ["", "", ""]
