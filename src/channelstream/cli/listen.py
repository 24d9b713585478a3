"""`channelstream listen`: print the events of a subscriber, and reconnect after every interruption."""

import json
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from channelstream.cli.publish import DEFAULT_USER
from channelstream.cli.reconnect import ReconnectPolicy
from channelstream.cli.remote import Server, add_server_flags, server_of
from channelstream.cli.streams import LOST, STREAMS, Item, ResumePoint, Stream, StreamEnded
from channelstream.config.flags import OneLineParser
from channelstream.errors import CloseCode, RequestFailed

DESCRIPTION = """\
Subscribe to channels and print one JSON line for each event. A stream that breaks is resumed from its position;
channels whose events are lost are reported on stderr. Ctrl-C ends it."""
EPILOG = """\
examples:
  channelstream listen -c news sport
  channelstream listen -c news -u alice --transport sse | jq .message
"""

FINAL = frozenset(
    {
        CloseCode.NORMAL,
        CloseCode.REPLACED,
        CloseCode.PROTOCOL_ERROR,
        CloseCode.UNSUPPORTED_DATA,
        CloseCode.INVALID_TEXT,
        CloseCode.POLICY_VIOLATION,
        CloseCode.TOO_BIG,
    }
)
"""Close codes after which a client must not reconnect."""
TOO_MANY_REQUESTS = 429


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Listen until the server ends the connection, or the user presses Ctrl-C.

    Raises:
        ConfigError: the arguments or settings are wrong.
        RequestFailed: the server refuses the subscriber.
    """
    arguments = _parser().parse_strictly(argv)
    server = server_of(arguments, environ)
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
        help="Channels to subscribe to; none means private messages only.",
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


def say(text: str) -> None:
    """Print a line that is not an event, to stderr."""
    print(f"channelstream: {text}", file=sys.stderr, flush=True)


@dataclass(slots=True)
class Subscriber:
    """A user who subscribes to channels over one transport.

    Attributes:
        wait: sleeps before a reconnect; takes seconds.
        jitter: returns random numbers from 0 to 1, so that many clients do not reconnect at the same time.
        clock: a monotonic clock, in seconds.
    """

    server: Server
    user: str
    channels: Sequence[str]
    stream: Stream
    wait: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random
    clock: Callable[[], float] = time.monotonic
    resume_point: ResumePoint = field(default_factory=ResumePoint)
    policy: ReconnectPolicy = field(default_factory=ReconnectPolicy)

    def listen(self) -> int:
        """Print events until the server ends the connection. Return the exit code: 0 if it ended with 1000."""
        self.connect()
        while True:
            try:
                self.read_stream()
            except StreamEnded as end:
                say(f"stream ended: {end}")
                if end.code in FINAL:
                    return 0 if end.code == CloseCode.NORMAL else 1
                self.wait_to_reconnect(end)

    def connect(self) -> None:
        """Register a connection, as an application does for its browsers.

        Raises:
            RequestFailed: the server refused it or cannot be reached.
        """
        body = {
            "username": self.user,
            "channels": list(self.channels),
            "info": {"include_history": False, "include_users": False},
            "since": self.resume_point.position,
        }
        self.resume_point.conn_id = self.server.post("/connect", body, dict, "conn_id")["conn_id"]

    def read_stream(self) -> None:
        """Handle the items of one stream until it ends.

        Raises:
            StreamEnded: always.
        """
        if not self.resume_point.conn_id:
            self.reconnect()
        for item in self.stream(self.server, self.resume_point):
            self.policy.received(self.clock())
            self.handle(item)

    def reconnect(self) -> None:
        """Register a new connection if the old one is unknown. An unreachable or overloaded server is tried again.

        Raises:
            RequestFailed: the server refused it.
            StreamEnded: the server cannot be reached, or answered 5xx or 429.
        """
        try:
            self.connect()
        except RequestFailed as error:
            if error.status is not None and error.status < 500 and error.status != TOO_MANY_REQUESTS:
                raise
            raise StreamEnded(LOST, str(error)) from error

    def handle(self, item: Item) -> None:
        """Print an event and store its position. A `resumed` item is reported on stderr instead of stdout."""
        if item.get("type") == "resumed":
            self.report_start(item)
        else:
            print(json.dumps(item), flush=True)
        self.resume_point.position = item.get("position", self.resume_point.position)

    def report_start(self, resumed: Item) -> None:
        """Report the first start of the stream, and channels whose events may be missing."""
        if not self.resume_point.position:
            say(f"listening to {', '.join(self.channels) or 'private messages'} as {self.user}")
        if resumed.get("lost"):
            lost = (name or "private messages" for name in resumed["lost"])
            say(f"events may be missing from: {', '.join(lost)}")

    def wait_to_reconnect(self, end: StreamEnded) -> None:
        """Wait before the next stream, and drop a connection that the server does not know."""
        if end.code == CloseCode.UNKNOWN_CONNECTION:
            self.resume_point.conn_id = ""
        self.wait(end.retry_after_s + self.jitter() * self.policy.longest_s(end.code, self.clock()))
