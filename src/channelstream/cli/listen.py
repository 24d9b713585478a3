"""`channelstream listen`: print the events of a subscriber, and reconnect after every interruption."""

import asyncio
import json
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from channelstream.cli.publish import DEFAULT_USER
from channelstream.cli.remote import Server, add_server_flags, server_of
from channelstream.cli.terminal import say
from channelstream.cli.termination import ending
from channelstream.close_codes import CloseCode
from channelstream.config.flags import OneLineParser
from channelstream.errors import RequestFailed
from channelstream_client.blocking import BlockingIteration
from channelstream_client.errors import StreamClosed
from channelstream_client.listening import Iteration
from channelstream_client.protocol import Item
from channelstream_client.reach import Reach, tls_context
from channelstream_client.resuming import Down, ResumingClient
from channelstream_client.streams import Stream, long_poll, sse, websocket

DESCRIPTION = """\
Subscribe to channels and print one JSON line for each event. A stream that breaks is resumed from its position;
channels whose events are lost are reported on stderr. Ctrl-C, or SIGTERM, ends it."""
EPILOG = """\
examples:
  channelstream listen -c news sport
  channelstream listen -c news -u alice --transport sse | jq .message
"""

STREAMS: dict[str, Stream] = {"ws": websocket, "sse": sse, "poll": long_poll}
TOO_MANY_REQUESTS = 429


class _SubscriberRefused(StreamClosed):
    """The server refuses to register the subscriber again, so that listening ends. The refusal is its `__cause__`."""


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Listen until the server ends the connection, or the user presses Ctrl-C, or SIGTERM comes.

    Raises:
        ConfigError: the arguments or settings are wrong.
        RequestFailed: the server refuses the subscriber.
    """
    arguments = _parser().parse_strictly(argv)
    server = server_of(arguments, environ)
    # `report_down` prints what the client logs.
    logging.getLogger("channelstream_client").addHandler(logging.NullHandler())
    subscriber = Subscriber(server, arguments.user, arguments.channels, STREAMS[arguments.transport])
    try:
        return subscriber.listen()
    except KeyboardInterrupt:
        return 0


def _parser() -> OneLineParser:
    parser = OneLineParser("channelstream listen", DESCRIPTION, EPILOG)
    parser.add_argument(
        "-c",
        "--channels",
        metavar="CHANNEL",
        nargs="+",
        action="extend",
        default=[],
        help="Channels to subscribe to, besides private messages to the user.",
    )
    parser.add_argument(
        "-u",
        "--user",
        metavar="USER",
        default=DEFAULT_USER,
        help=f"The user who subscribes [{DEFAULT_USER}].",
    )
    parser.add_argument("--transport", choices=tuple(STREAMS), default="ws", help="How to listen [ws].")
    add_server_flags(parser)
    return parser


def reach_of(server: Server) -> Reach:
    """Return how streams get to a server: as its calls do, without proxies of the environment."""
    return Reach(
        lambda: server.tls() or tls_context(server.url, verify=True),
        trust_env=False,
        unix_socket=server.unix_socket,
    )


@dataclass(slots=True)
class Subscriber:
    """A user who subscribes to channels over one transport.

    Attributes:
        jitter: returns random numbers from 0 to 1, so that many clients do not reconnect at the same time.
        has_received: whether a stream has brought an item.
        is_listening: whether it has reported its first stream.
    """

    server: Server
    user: str
    channels: Sequence[str]
    stream: Stream
    jitter: Callable[[], float] = random.random
    has_received: bool = False
    is_listening: bool = False

    def listen(self) -> int:
        """Print events until the server ends the connection. Return the exit code: 0 if it ended on purpose.

        Raises:
            RequestFailed: the server refused the subscriber, or cannot be reached at the start.
        """
        conn_id = self.connect("")
        try:
            with BlockingIteration(lambda: self.events(conn_id)) as items, ending(items.close) as signals:
                for item in items:
                    self.handle(item)
        except _SubscriberRefused as refused:
            raise refused.__cause__ or refused from None
        except StreamClosed as closed:
            self._report_end(str(closed), was_open=self.has_received)
            return 1
        if not signals:
            say("the connection was ended")
        return 0

    def connect(self, position: str) -> str:
        """Register a connection that may read from a position, as an application does for its browsers. Return its id.

        Raises:
            RequestFailed: the server refused it or cannot be reached.
        """
        body = {
            "username": self.user,
            "channels": list(self.channels),
            "info": {"include_history": False, "include_users": False},
            "since": position,
        }
        conn_id: str = self.server.post("/connect", body, dict, "conn_id")["conn_id"]
        return conn_id

    def events(self, conn_id: str) -> Iteration[Item]:
        client = ResumingClient(self.server.url, conn_id, [self.stream], self.jitter, can_renew=True)
        reach = reach_of(self.server)
        return Iteration(client, reach, lambda item: item, renew=self.renew, on_down=self.report_down)

    async def renew(self, position: str) -> str:
        """Register a new connection in place of one that the server does not know. A failure is tried again.

        Raises:
            RequestFailed: the server cannot be reached, or answered 5xx or 429.
            StreamClosed: the server refused it.
        """
        try:
            return await asyncio.to_thread(self.connect, position)
        except RequestFailed as error:
            if error.status is None or error.status >= 500 or error.status == TOO_MANY_REQUESTS:
                raise
            raise _SubscriberRefused(CloseCode.UNKNOWN_CONNECTION, str(error)) from error

    def handle(self, item: Item) -> None:
        """Print an event. A `resumed` item is reported on stderr instead of stdout."""
        self.has_received = True
        if item.get("type") == "resumed":
            self.report_start(item)
        else:
            print(json.dumps(item), flush=True)

    def report_start(self, resumed: Item) -> None:
        """Report the first start of the stream, and channels whose events may be missing."""
        if not self.is_listening:
            self.is_listening = True
            say(
                f"listening to {', '.join(self.channels) or 'private messages'} as {self.user}{self._advice()}"
            )
        if resumed.get("lost"):
            lost = (name or "private messages" for name in resumed["lost"])
            say(f"events may be missing from: {', '.join(lost)}")

    def _advice(self) -> str:
        return "" if self.channels else "; -c CHANNEL subscribes to channels as well"

    def report_down(self, down: Down) -> None:
        self._report_end(down.reason, was_open=down.was_open)

    def _report_end(self, reason: str, *, was_open: bool) -> None:
        say(f"{'stream ended' if was_open else 'no stream'}: {reason}")
