"""What the sockets of clients took of what was written to them, and what was dropped with their streams."""

import asyncio
import re
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

from tests.admin.test_slow import MESSAGES, TEXT, stopped_reader
from tests.admin_pages import figures
from tests.waiting import eventually

from channelstream.admin.taken import TakenBytes
from channelstream.core.connection import Connection
from channelstream.service import Node
from channelstream.wire.channelstream import V07


def holder(size: int | None) -> Any:
    """Return a connection whose stream holds so many bytes; None: it has no stream."""
    connection: Any = Connection("c", "ann", V07, (0,), 15.0)
    if size is not None:
        connection.stream = SimpleNamespace(size=size)
        connection.stream.buffered_bytes = partial(getattr, connection.stream, "size")
    return connection


class Few:
    """Some connections, to whose streams 1,000 bytes were written."""

    def __init__(self, **connections: Any) -> None:
        self.written = SimpleNamespace(size=1000)
        hub = SimpleNamespace(connections=connections, written=self.written)
        node = SimpleNamespace(hub=hub, clock=SimpleNamespace(steady=lambda: 0.0))
        self.taken = TakenBytes(cast(Node, node))

    def look(self) -> tuple[int, int]:
        asyncio.run(self.taken.look())
        return self.taken.count, self.taken.dropped


def test_what_a_stream_holds_is_not_taken() -> None:
    """Until its socket takes it; a connection without a stream holds nothing."""
    slow, idle = holder(300), holder(None)
    few = Few(slow=slow, idle=idle)
    assert few.look() == (700, 0)
    few.written.size = 1500
    assert few.taken.count == 1200
    slow.stream.size = 100
    assert few.look() == (1400, 0)
    slow.stream.size = 0
    assert few.look() == (1500, 0)


def test_what_a_stream_held_when_it_ended_is_dropped() -> None:
    """Whether its connection is gone, or has another stream, which holds bytes of its own."""
    gone, back = holder(300), holder(200)
    few = Few(gone=gone, back=back)
    few.look()
    gone.stream = None
    back.stream = holder(50).stream
    assert few.look() == (450, 500)
    assert few.look() == (450, 500)


def test_the_figures_show_what_arrived_and_what_did_not(start_server: Any) -> None:
    """A reader that has stopped has not taken what was written to it; with its end it is dropped."""
    running = start_server("--outbox-bytes", "4096")

    def is_looked_at() -> bool:
        """Whether the figures leave out what the stream holds."""
        metrics = running.request("GET", "/metrics").text
        [written] = re.findall(r"^channelstream_written_bytes_total\S* (\S+)$", metrics, re.MULTILINE)
        return bool(figures(running)["taken_bytes"] < float(written))

    conn_id = running.connect("taken-ann", "taken")
    with stopped_reader(running, conn_id):
        eventually(lambda: figures(running)["streams"] == 1, "it is not open")
        for number in range(MESSAGES):
            running.post("/message", [{"channel": "taken", "user": "x", "message": f"{number} {TEXT}"}])
        eventually(lambda: figures(running)["slow_clients"] == 1, "it is not slow")
        eventually(is_looked_at, "it is not looked at")
    eventually(lambda: figures(running)["dropped_bytes"] > 0, "nothing is dropped")
    found = figures(running)
    assert 0 < found["written"] < found["deliveries"] == MESSAGES
    assert found["taken_bytes"] + found["dropped_bytes"] >= found["written"] * len(TEXT)
