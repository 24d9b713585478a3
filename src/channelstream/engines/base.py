"""The engine port: what the node asks of the place where the shared truth lives.

An engine accepts events, gives each a number in its log, keeps what resuming needs, and hands every accepted event to
its receiver in log order - here and on every other node. Every implementation runs `tests/engines/conformance.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from channelstream.core.channel import Channel
from channelstream.core.events import Dialect, Event
from channelstream.core.log import Entry
from channelstream.core.position import Position
from channelstream.core.user import StateValue, User

PRIVATE = ""
"""How the private messages of a user are called where channels are listed (docs/resume.md)."""


class Receiver(Protocol):
    """Whoever hears accepted events, in log order."""

    def deliver(self, entry: Entry) -> None: ...


class Clock(Protocol):
    """Time as the engine sees it, in seconds."""

    def wall(self) -> float:
        """Seconds since 1970, for timestamps."""

    def steady(self) -> float:
        """Seconds that never jump, for ages and deadlines."""


@dataclass(frozen=True, slots=True)
class Member:
    """A connection, as far as the engine counts it."""

    conn_id: str
    user: str
    dialect: Dialect


@dataclass(frozen=True, slots=True)
class UserUpdate:
    """What a request says about a user.

    Attributes:
        values: state to set.
        fresh: state to set only if the user is new.
        public_keys: the keys that are public from now on; None keeps those it has.
        add_public: keys that become public in addition.
    """

    values: Mapping[str, StateValue]
    fresh: Mapping[str, StateValue]
    public_keys: Sequence[str] | None = None
    add_public: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class UserChange:
    """A user after an update, and the (key, value) pairs that changed."""

    user: User
    changed: list[tuple[str, StateValue]]


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of one published event.

    Attributes:
        event: as accepted; for a repeated message, the one accepted the first time.
        repeated: its uuid was in the log already, so nothing was delivered.
        found: for edits and deletions, whether the message is still kept.
    """

    event: Event
    repeated: bool
    found: bool


@dataclass(frozen=True, slots=True)
class Replay:
    """A stretch of the log.

    Attributes:
        entries: in log order, across channels.
        lost: the channels whose log no longer reaches back to where they were asked from.
        upto: everything up to this number that was asked for is in `entries`.
        head: the number of the log's last event when it was read; equal to `upto` when nothing is left to read.
    """

    entries: list[Entry]
    lost: frozenset[str]
    upto: int
    head: int


class Engine(Protocol):
    """The port. Methods that change something are atomic: all of it is accepted, or an error is raised and nothing is."""

    name: str
    """How it is called in the configuration and by `/info`."""

    @property
    def position(self) -> Position:
        """The number of the last event this node was handed, in the present epoch."""

    async def start(self, receiver: Receiver) -> None:
        """Begin to hand accepted events to `receiver`, from the position on.

        Raises:
            ConfigError: the engine cannot be used as it is configured.
        """

    async def close(self) -> None:
        """Stop; everything acknowledged is as safe as this engine promises."""

    async def publish(self, events: Sequence[Event]) -> list[Accepted]:
        """Accept events in this order; a message whose uuid the log holds is not accepted twice."""

    async def replay(self, user: str, starts: Mapping[str, int], limit: int) -> Replay:
        """Read what followed.

        Args:
            user: whose private messages are meant by the name `PRIVATE` in `starts`.
            starts: for each channel the number after which to read; channels lost are not read.
            limit: about how many entries to return at most; the caller asks on from `upto`.
        """

    async def connect(self, member: Member, update: UserUpdate) -> UserChange:
        """Count a new connection of a user, created if need be, and update the user."""

    async def disconnect(self, member: Member, channels: Sequence[str]) -> None:
        """Count a connection out of its channels and of its user."""

    async def join(self, member: Member, channels: Mapping[str, Mapping[str, Any]]) -> None:
        """Count a connection into channels it is not in; each with the settings it gets if it is new."""

    async def leave(self, member: Member, channels: Sequence[str]) -> None:
        """Count a connection out of channels it is in."""

    async def configure(self, patches: Mapping[str, Mapping[str, Any]]) -> None:
        """Change the named settings of channels, created if need be."""

    async def update_user(self, name: str, update: UserUpdate) -> UserChange | None:
        """Change a known user's state; None when it is unknown."""

    async def channels(self, names: Sequence[str] | None) -> list[Channel]:
        """Return these channels, the unknown left out; None means all."""

    async def users(self, names: Sequence[str] | None) -> list[User]:
        """Return these users, the unknown left out; None means all."""

    async def collect(self) -> None:
        """Forget idle users, empty channels and aged logs; called every few seconds."""
