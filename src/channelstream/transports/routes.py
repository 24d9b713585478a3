"""The paths of the transports: who opens their streams, long polls, and refusals of streams that cannot be opened."""

from collections.abc import Iterable
from functools import partial

from channelstream.core.connection import Connection, ConnectionState
from channelstream.core.format import Format
from channelstream.errors import Unavailable, UpgradeRequired
from channelstream.http.request import ClientGone, Request
from channelstream.http.response import Response
from channelstream.http.router import OnRefusal, Route
from channelstream.service import Service
from channelstream.transports.admission import Admission
from channelstream.transports.client_calls import ClientCalls
from channelstream.transports.entrances import ByConnId, MakeEntrance
from channelstream.transports.longpoll import LONG_ANSWER_BYTES, PollStream, check_callback, jsonp
from channelstream.transports.opening import SocketOpener
from channelstream.transports.pusher_socket import PusherSocket
from channelstream.transports.streams import Streams
from channelstream.transports.token_admission import Asked
from channelstream.wire.framing import Framing

ENTRANCES: tuple[MakeEntrance, ...] = (ByConnId, PusherSocket)
SCRIPT = b"application/javascript; charset=utf-8"
"""With a charset, as a script without one is read in that of the page."""
POLL_BODY_BYTES = 65_536
"""Longest body of a POSTed poll; it is ignored."""
NO_STORE = ((b"cache-control", b"no-store"),)


def stream_routes(
    streams: Streams,
    service: Service,
    entrances: Iterable[MakeEntrance] = ENTRANCES,
    opens_any: bool = False,
    on_refusal: OnRefusal = lambda *refusal: None,
) -> Iterable[Route]:
    """Return the routes of all transports.

    Args:
        service: of the application whose streams they open.
        opens_any: as of `Admission`.
        on_refusal: as of `SocketOpener`.
    """
    admission = Admission(streams, service, opens_any)
    cors = admission.cors if opens_any else None
    opener, handlers = SocketOpener(streams, admission, on_refusal), StreamHandlers(streams, admission)
    poll = handlers.poll
    websockets = [make(admission) for make in entrances]
    return (
        *(
            Route(path, {"GET": handlers.refuse_websocket}, NO_STORE, partial(opener.websocket, each), cors)
            for each in websockets
            for path in each.paths
        ),
        Route("/sse", {"GET": handlers.refuse_event_stream}, NO_STORE, opener.event_stream, cors),
        Route("/listen", {"GET": poll, "POST": poll}, NO_STORE, cors=cors),
        Route("/client", {"POST": ClientCalls(streams, admission.tokens).answer}, NO_STORE, cors=cors),
    )


class StreamHandlers:
    """Answers the requests for streams whose sockets stay in HTTP."""

    def __init__(self, streams: Streams, admission: Admission) -> None:
        self._streams = streams
        self._admission = admission

    async def refuse_websocket(self, request: Request) -> Response:
        """Refuse a request without an upgrade."""
        self._admission.policy(request.query).check_origin(request.headers)
        raise UpgradeRequired("Open this path as a WebSocket: with GET, Upgrade and HTTP/1.1.")

    async def refuse_event_stream(self, request: Request) -> Response:
        """Raise the error for which a request opens no event stream."""
        self._admission.policy(request.query).check_origin(request.headers)
        token = self._admission.tokens.token_of(request.head, request.arguments)
        if token is None:
            await self._admission.take_over(request.arguments, Framing.SSE)
        else:
            asked = Asked(token, request.arguments.get("conn_id", ""), request.arguments.get("since"))
            await self._admission.tokens.admit(asked, request.head)
        raise Unavailable("This stream cannot be opened here; try again.")

    async def poll(self, request: Request) -> Response:
        """Wait for events.

        Raises:
            ClientGone: the client has gone meanwhile.
            TooManyRequests: its connection is not known here, and its address opens too many streams.
        """
        query = request.arguments
        callback = check_callback(query["callback"]) if "callback" in query else None
        self._admission.check_load(request.head)
        is_known = self._admission.is_known(query)
        if not is_known:
            self._streams.count_opening(request.head)
        stream = await self._poll_stream(request, is_known)
        body = await stream.wait(request.disconnected)
        if body is None:
            raise ClientGone
        if stream.end is not None and callback is None:
            raise stream.end
        if len(body) >= LONG_ANSWER_BYTES:
            # Starts in the next turn of the loop: the answer is written in this one.
            self._streams.run_in_background(stream.hold_while_read())
        return Response(body) if callback is None else Response(jsonp(callback, body), content_type=SCRIPT)

    async def _poll_stream(self, request: Request, is_known: bool) -> PollStream:
        """Return the open stream of a poll.

        Args:
            is_known: the connection that it names is here, so it is not counted yet; it may be another client's.
        """
        query, tokens = request.arguments, self._admission.tokens
        token, since = tokens.token_of(request.head, request.arguments), query.get("since")
        if token is None:
            # Before the body is read, as it may be refused; and again, as it may have moved or ended meanwhile.
            await self._admission.take_over(query, Framing.POLL)
            await request.read(POLL_BODY_BYTES)
            connection = await self._admission.take_over(query, Framing.POLL)
            stream = PollStream(self._streams, connection, request.source.line())
        else:
            await request.read(POLL_BODY_BYTES)
            asked = Asked(token, query.get("conn_id", ""), since, knows_conn_id=True)
            count = partial(self._streams.count_opening, request.head) if is_known else _counted
            connection, client, greeting = await tokens.admit(asked, request.head, count)
            stream = PollStream(self._streams, connection, request.source.line())
            stream.admit(client, greeting)
            since = since or ""
        self._streams.note_client(connection, request.head, follows=_had_poll(connection, stream.format))
        stream.open(since)
        return stream


def _counted() -> None:
    """Count nothing: it is counted already."""


def _had_poll(connection: Connection, poll: Format) -> bool:
    """Whether the last stream of the connection was a poll, which has been answered."""
    return connection.state is ConnectionState.DETACHED and connection.format_number == poll.number
