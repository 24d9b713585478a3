"""What all streams of the process share."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from math import ceil, inf
from types import MappingProxyType
from typing import Protocol

from channelstream.apps.app import App
from channelstream.apps.client import Client
from channelstream.apps.keys import name_of
from channelstream.close_codes import CloseCode
from channelstream.core.connection import Connection
from channelstream.core.http_head import RequestHead
from channelstream.core.policy import Policy
from channelstream.core.stream_client import Agents
from channelstream.errors import Unavailable
from channelstream.http.address_rates import AddressRate
from channelstream.http.closing import ClosingQueue
from channelstream.service import Services
from channelstream.slices import TurnQueue
from channelstream.transports.client_actions import ClientActions
from channelstream.transports.heartbeat import Heartbeat
from channelstream.transports.moving import Copied
from channelstream.transports.settings import StreamSettings
from channelstream.transports.tokens import NO_TOKENS, ClientRules
from channelstream.wire.client_session import ClientSession, LineRules, SessionStart, Silence
from channelstream.wire.frame_reader import Limits
from channelstream.wire.framing import Framing
from channelstream.wire.protocols import PROTOCOLS, Protocols

READS_AT_ONCE = 200
"""WebSocket clients whose frames are taken in in one turn of the loop: about 15 us each, if each has sent a short one."""
ANSWERS_AT_ONCE = 25
"""Long polls that are answered in one turn of the loop: 40 us each, up to 100 us if many processes wait for a core."""


class Waiting(Protocol):
    """A WebSocket that is no stream yet (`first_text.py`)."""

    def close(self, code: CloseCode | int | None, reason: str) -> None: ...


class Streams:
    """The node, the settings and the timer of all streams, and the services of their applications."""

    def __init__(
        self,
        services: Services,
        settings: StreamSettings,
        policy: Policy,
        protocols: Protocols = PROTOCOLS,
        policies: Mapping[str, Policy] = MappingProxyType({}),
        rules: ClientRules = NO_TOKENS,
        openings: AddressRate | None = None,
        credentials: AddressRate | None = None,
    ) -> None:
        """Create the state of a process without streams.

        Args:
            policy: of the default application.
            policies: of other applications, by id.
            rules: what clients with tokens may do.
            openings: how often an address may open a stream; None means as often as it likes.
            credentials: how often it may show a token that is refused; likewise.
        """
        self.services = services
        self.node = services.node
        self.policy = policy
        self._policies = policies
        self.rules = rules
        self._openings = openings
        self._credentials = credentials
        self.protocols = protocols
        self.settings = settings
        self.heartbeat = Heartbeat(settings.heartbeat_interval_s)
        self.ping_every = max(1, ceil(settings.ping_interval_s / settings.heartbeat_interval_s))
        """Heartbeats from one WebSocket ping to the next."""
        self.limits = Limits(settings.inbound_bytes, settings.inbound_bytes, settings.inbound_frames)
        """Bounds of what a WebSocket client may make this server buffer."""
        self._limits: dict[int, Limits] = {}
        """The bounds of protocols that allow more frames, by these; as many as applications have different rates."""
        self.closing = ClosingQueue()
        self.inbound = TurnQueue(READS_AT_ONCE)
        """What WebSocket clients have sent and is not taken in yet."""
        self.answers = TurnQueue(ANSWERS_AT_ONCE)
        """Long polls whose answers are ready."""
        self.waiting: set[Waiting] = set()
        """WebSockets whose clients have not sent their tokens yet."""
        self.is_held = False
        """Whether no stream is read, since another process may take them over."""
        self._agents = Agents()
        self.copied: dict[object, Copied] = {}
        """Streams of which another process has the sockets as well, each with what it has of it."""
        self.arriving: dict[str, Client | None] = {}
        """Connections whose streams come from another process, until all of them are continued; with each, as whom its
        client acts by a fresh token that it has sent here meanwhile."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._background: set[asyncio.Task[None]] = set()

    def check_draining(self) -> None:
        """Refuse streams while the server stops.

        Raises:
            Unavailable: it does.
        """
        if self.node.draining:
            raise Unavailable("The server restarts; reconnect in a moment.")

    def count_opening(self, head: RequestHead) -> None:
        """Count a stream that the client of a request is about to open.

        Raises:
            TooManyRequests: its address opens too many.
        """
        if self._openings is not None:
            self._openings.take(self.policy.client(head))

    def count_refused_token(self, head: RequestHead) -> None:
        """Count a token that is refused, for the client of a request.

        Raises:
            TooManyRequests: its address has shown too many wrong credentials.
        """
        if self._credentials is not None:
            self._credentials.take(self.policy.client(head))

    def policy_of(self, app: App) -> Policy:
        """Return the policy of an application: its pages may be others."""
        return self._policies.get(app.id, self.policy)

    def actions(
        self, connection: Connection, client: Client | None, admit: Callable[[Client], None]
    ) -> ClientActions:
        """Return what a client can do by commands.

        Args:
            connection: its own.
            client: as its token says; None if its stream was opened without one.
            admit: as of `ClientActions`.
        """
        service = self.services.owner(connection.id)
        if client is None:
            grants = self.protocols.grants_of(connection.protocol)
            client = Client(service.app, name_of(connection.user), inf, grants)
        return ClientActions(service, connection, client, self.rules, admit)

    def refuse_waiting(self) -> None:
        """Close the WebSockets whose clients have not sent their tokens yet: they come back, to another process."""
        for each in list(self.waiting):
            each.close(CloseCode.RESTARTING, "the server restarts")

    def session_of(self, connection: Connection, framing: Framing, state: bytes) -> ClientSession:
        """Return the session of a new stream.

        Args:
            state: as of `SessionStart`.

        Raises:
            ValueError: the application of the connection does not speak its protocol.
        """

        def start() -> SessionStart:
            return SessionStart(self.services.app_of(connection.id), self.node.clock.steady, state)

        return self.protocols.session_of(connection.protocol, framing, start)

    def limits_of(self, rules: LineRules) -> Limits:
        """Return the bounds of what a WebSocket client may make this server buffer, in a protocol with these rules."""
        own = rules.frames + ceil(rules.frames_per_s * self.ping_every * self.settings.heartbeat_interval_s)
        if own <= self.limits.frames:
            return self.limits
        if (known := self._limits.get(own)) is None:
            known = self._limits[own] = replace(self.limits, frames=own)
        return known

    def beats_in(self, silence: Silence | None) -> int:
        """Return after how many heartbeats a silent client is closed; 0 for never.

        They are so many that it has been sent a ping meanwhile, and had the time from one heartbeat to the next to answer.
        """
        if silence is None:
            return 0
        return max(ceil(silence.seconds / self.settings.heartbeat_interval_s), self.ping_every + 1)

    def note_client(self, connection: Connection, head: RequestHead, *, follows: bool = False) -> None:
        """Keep who opens a stream of a connection.

        Args:
            follows: as of `Connection.opened_by`.
        """
        agent = self._agents.text(head.first.get(b"user-agent"))
        connection.opened_by(self.policy.client(head), agent, self.node.clock.wall(), follows=follows)

    @property
    def open(self) -> int:
        """Number of open WebSocket and SSE streams."""
        return self.heartbeat.count

    @property
    def is_opening(self) -> bool:
        """Whether streams are about to open."""
        return bool(self._opening or self._tasks)

    @property
    def sockets(self) -> int:
        """Number of sockets that left HTTP: of open streams, and of streams that are about to open."""
        return self.heartbeat.count + len(self._opening) + len(self.waiting)

    def grace_s(self, connection: Connection) -> float:
        """Return how long a connection outlives a lost stream, in seconds."""
        return self.settings.detach_grace_s if self.protocols.resumes(connection.protocol) else 0.0

    def run(self, work: Coroutine[None, None, None], has_socket: bool = False) -> None:
        """Run a task for a stream that is about to open; stopping waits for it.

        Args:
            work: opens or refuses the stream.
            has_socket: the socket has left HTTP, so it counts in `sockets`.
        """
        _keep(work, self._opening if has_socket else self._tasks)

    def run_in_background(self, work: Coroutine[None, None, None]) -> None:
        """Run a task for a connection without a stream; stopping does not wait for it."""
        _keep(work, self._background)

    async def all_opened(self) -> None:
        """Wait until all streams that are about to open have opened or are refused; those that wait for a token are."""
        self.refuse_waiting()
        while tasks := self._opening | self._tasks:
            await asyncio.wait(tasks)


def _keep(work: Coroutine[None, None, None], tasks: set[asyncio.Task[None]]) -> None:
    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
