"""The paths of the transports as an ASGI application: long polls, and refusals of streams that cannot be opened.

Requests that open a WebSocket or an event stream do not come here: `router.py` takes their sockets over.
"""

from channelstream.asgi import ClientGone, Receive, Scope, Send, answer, read_body, refuse
from channelstream.core.policy import Header
from channelstream.core.query import read_query
from channelstream.errors import ChannelstreamError, NotFound, Unavailable, UpgradeRequired
from channelstream.http.line import LINE, Line
from channelstream.transports.longpoll import LONG_ANSWER_BYTES, PollStream, check_callback, jsonp
from channelstream.transports.streams import Streams
from channelstream.wire.framing import Framing

POLL_PATH = "/listen"
PATHS = frozenset((POLL_PATH, "/ws", "/sse"))
SCRIPT = b"application/javascript; charset=utf-8"
"""With a charset, as a script without one is read in that of the page."""
POLL_METHODS = ("GET", "POST")
POLL_BODY_BYTES = 65_536
"""Longest body of a POSTed poll; it is ignored."""


class StreamsApp:
    """Answers requests for `/listen`, `/ws` and `/sse`."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        cors = [*self._streams.policy.cors(scope["headers"]), (b"cache-control", b"no-store")]
        if scope["method"] == "OPTIONS":
            await answer(scope, send, 200, b"", cors, b"text/plain")
            return
        try:
            await self._serve(scope, receive, send, cors)
        except ChannelstreamError as error:
            await refuse(scope, send, error, cors)
        except ClientGone:
            return

    async def _serve(self, scope: Scope, receive: Receive, send: Send, cors: list[Header]) -> None:
        if scope["path"] != POLL_PATH:
            await self._refuse_stream(scope)
        if scope["method"] not in POLL_METHODS:
            raise NotFound.method(scope["method"], POLL_PATH, POLL_METHODS)
        await self._poll(scope, receive, send, cors)

    async def _refuse_stream(self, scope: Scope) -> None:
        """Raise the error for which this request opens no stream."""
        self._streams.policy.check_origin(scope["headers"])
        if scope["method"] != "GET":
            raise NotFound.method(scope["method"], scope["path"], ("GET",))
        if scope["path"] == "/ws":
            raise UpgradeRequired("Open this path as a WebSocket: with GET, Upgrade and HTTP/1.1.")
        await self._streams.take_over(read_query(scope["query_string"]), Framing.SSE)
        raise Unavailable("This stream cannot be opened here; try again.")

    async def _poll(self, scope: Scope, receive: Receive, send: Send, cors: list[Header]) -> None:
        line: Line | None = scope.get("extensions", {}).pop(LINE, None)
        query = read_query(scope["query_string"])
        callback = check_callback(query["callback"]) if "callback" in query else None
        await self._streams.take_over(query, Framing.POLL)
        await read_body(scope, receive, POLL_BODY_BYTES)
        stream = PollStream(self._streams, await self._streams.take_over(query, Framing.POLL), line)
        stream.open(query.get("since"))
        body = await stream.wait(receive)
        if body is None:
            return
        if callback is not None:
            await answer(scope, send, 200, jsonp(callback, body), cors, SCRIPT)
        elif stream.end is not None:
            raise stream.end
        else:
            await answer(scope, send, 200, body, cors)
        if len(body) >= LONG_ANSWER_BYTES:
            self._streams.run_in_background(stream.hold_while_read())
