"""What the old process holds, so that nothing changes any more while it hands over what has changed since the copies.

To hold everything takes three steps, each with a bound:

1. No stream is read. No request begins, those in progress end, and long polls are answered, as are publishers that wait for
   the flush.
2. No stream is written to any more, so the position of its connection is valid.
3. What was written to streams is in the kernel.

A stream that is not ready within the bounds stays here. A handler that is not ready is different: what it changes would be
lost. So then nothing is handed over, and this process goes on.
"""

import asyncio
from collections.abc import Callable, Container
from math import inf

from channelstream.errors import CannotHandOver
from channelstream.http.connection import HttpConnection
from channelstream.http.phase import Work
from channelstream.service.backpressure import answer_all
from channelstream.slices import Slices
from channelstream.transports.longpoll import PollStream
from channelstream.transports.socket_stream import SocketStream
from channelstream.upgrade.server_parts import ServerParts

CATCH_UP_S = 5.0
"""How long streams that catch up are waited for while calls are served, in seconds."""
STEP_S = 0.002
"""Time between two looks, in seconds."""
LOOK_S = 0.02
"""Time between two looks at all connections while requests are in progress, in seconds: there may be many."""


class Holding:
    """Holds the parts of a server, and lets them go.

    Attributes:
        unread: streams of which nothing is read.
        streams: those of them to which nothing is written either.
    """

    def __init__(self, parts: ServerParts) -> None:
        self.unread: dict[SocketStream, None] = {}
        self.streams: list[SocketStream] = []
        self._parts = parts
        self._has_begun = False
        self._slow: set[object] = set()
        """Requests that were still being received when streams were held: `freeze` does not wait for them."""
        self._looked_s = -inf
        """When all connections were looked at last."""
        self._unsettled: list[SocketStream] = []
        """Streams of which nothing is read, and that were not settled when they were last looked at."""

    async def hold_streams(self) -> None:
        """Pause periodic work, of which a round may take long, and stop to read streams, which may be many.

        Calls are still served. So streams that catch up, and requests that are being received, are waited for here first:
        in `freeze` they have less time.
        """
        parts, receiving = self._parts, self._receiving()
        await parts.housekeeping.pause()
        await parts.webhooks.stop(is_replaced=True)
        await self._until(lambda: receiving.isdisjoint(self._receiving()), parts.pause_s)
        behind = [stream for stream in open_streams(parts) if not stream.is_settled]
        await self._until(lambda: all(not each.is_open or each.is_settled for each in behind), CATCH_UP_S)
        await parts.save_figures()
        self._slow = receiving & self._receiving()
        self._has_begun = parts.streams.is_held = True
        await Slices(asyncio.get_running_loop().time).each(open_streams(parts), self._hold)

    async def freeze(self) -> None:
        """Hold everything, after `hold_streams`.

        Raises:
            CannotHandOver: something in progress does not end; `let_go` continues as before.
        """
        parts = self._parts
        parts.listener.pause()
        parts.metrics_listener.pause()
        parts.streams.heartbeat.stop()
        # The loop may have accepted sockets whose protocols it calls in its next turn; they move as well.
        await asyncio.sleep(0)
        await parts.http_server.hold()
        parts.streams.refuse_waiting()
        await self._settle()
        # What was answered in this turn looks for the request behind it in the next one, and then it is idle.
        await asyncio.sleep(0)
        if not await parts.node.reports.settle(parts.pause_s / 3):
            raise CannotHandOver("the engine does not keep in time what webhooks report")
        await self._suspend()
        waiting = [stream for stream in self.streams if stream.buffered_bytes()]
        await self._until(lambda: not any(map(_is_waiting, waiting)), parts.pause_s / 3)

    def _hold(self, stream: SocketStream) -> None:
        self.unread[stream] = None
        self._unsettled.append(stream)
        stream.hold()

    async def _settle(self) -> None:
        """Wait until nothing is in progress that changes anything, and a while for streams that catch up.

        A request that is still being received then is not completed here: what its handler would change may have been sent
        already.
        """
        parts, pause_s = self._parts, self._parts.pause_s
        in_time = await self._until(lambda: self._is_settled(bodies=True), pause_s)
        if in_time and self._slow.isdisjoint(self._receiving()):
            return
        await parts.http_server.hold_bodies()
        if not await self._until(lambda: self._is_settled(streams=in_time), pause_s / 3):
            raise CannotHandOver(f"a request takes longer than {pause_s:g} s (upgrade_pause_s)")

    def _receiving(self) -> set[object]:
        """Return the requests that are being received."""
        accepted = self._parts.http_server.sockets
        found = {each.receiving for each in accepted if isinstance(each, HttpConnection)}
        return found - {None}

    def _is_settled(self, *, bodies: bool = False, streams: bool = True) -> bool:
        """Whether nothing is in progress that changes anything.

        Args:
            bodies: a request that is being received counts as well, unless it is slow.
            streams: so does a stream that catches up.
        """
        # At each look: a call that publishes a long list waits again with each part of it.
        answer_all(self._parts.node.hub)
        is_working = self._is_working() or (bodies and not self._receiving() <= self._slow)
        now_s = asyncio.get_running_loop().time()
        if is_working and now_s < self._looked_s + LOOK_S:
            return False
        self._looked_s = now_s
        for stream in open_streams(self._parts, but=self.unread):
            self._hold(stream)
        self._answer_polls()
        if is_working:
            return False
        self._unsettled = [each for each in self._unsettled if each.is_open and not each.is_settled]
        return not any(streams or each.is_busy for each in self._unsettled)

    def _is_working(self) -> bool:
        """Whether a handler runs, a stream is about to open, or the node is in the middle of a change."""
        parts = self._parts
        is_called = parts.http_server.works(Work.HANDLER) or parts.streams.is_opening
        return is_called or not parts.node.move.is_settled

    def _answer_polls(self) -> None:
        for stream in [each.stream for each in self._parts.node.hub.connections.values()]:
            if isinstance(stream, PollStream):
                stream.caught_up()

    async def _suspend(self) -> None:
        def suspend(stream: SocketStream) -> None:
            if stream.is_open:
                self.streams.append(stream)
                stream.suspend()

        self._parts.node.move.note_epochs()
        await Slices(asyncio.get_running_loop().time).each(list(self.unread), suspend)

    async def _until(self, is_reached: Callable[[], bool], within_s: float) -> bool:
        """Return whether a condition is reached in time."""
        time = asyncio.get_running_loop().time
        begun_s = now_s = time()
        while not is_reached():
            looked_s, now_s = now_s, time()
            if now_s >= begun_s + within_s:
                return False
            # At least as long as the look: what is waited for needs time, too.
            await asyncio.sleep(max(STEP_S, now_s - looked_s))
            now_s = time()
        return True

    async def let_go(self) -> None:
        """Go on as before, wherever `hold_streams` or `freeze` have stopped."""
        parts = self._parts
        parts.housekeeping.resume()
        parts.webhooks.start()
        if not self._has_begun:
            return
        parts.streams.is_held = False

        def proceed(stream: SocketStream) -> None:
            if stream.is_open:
                stream.proceed()

        slices = Slices(asyncio.get_running_loop().time)
        await slices.each(self.streams, proceed)
        await slices.each(list(self.unread), lambda stream: stream.let_go())
        parts.streams.heartbeat.start()
        await parts.http_server.let_go()
        await parts.listener.resume()
        await parts.metrics_listener.resume()


def open_streams(parts: ServerParts, but: Container[object] = ()) -> list[SocketStream]:
    """Return the streams that have a socket of their own, except those that are known."""
    found = [each.stream for each in parts.node.hub.connections.values()]
    return [
        stream
        for stream in found
        if stream not in but and isinstance(stream, SocketStream) and stream.is_open
    ]


def _is_waiting(stream: SocketStream) -> bool:
    return stream.is_open and stream.is_settled and stream.buffered_bytes() > 0
