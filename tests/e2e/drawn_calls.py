"""Calls of an application and streams of its clients, drawn at random: the same for every server that they are made to.

A draw knows what it has drawn and no answer. Its steps name connections and messages by their ids, and a position by how
many thousandths of the latest positions that a server has sent are older, so each server is given its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType
from typing import Any

USERS = ("ann", "bob", "cy", "zoë")
CHANNELS = ("a", "b c", "ü", "d/e")
CONNECTIONS = tuple(f"c{number}" for number in range(6))
KEYS = ("k", "l", "status")
NO_POSITION, UNREADABLE = -1, -2
SWITCHES = (
    *("notify_presence", "notify_state", "store_history", "store_frames"),
    "broadcast_presence_with_user_lists",
)


@dataclass(frozen=True)
class Call:
    """A signed call; `since` in its body names a position, too."""

    method: str
    path: str
    body: Any


@dataclass(frozen=True)
class Open:
    """A client opens a WebSocket, and closes an older one."""

    conn_id: str
    since: int


@dataclass(frozen=True)
class Poll:
    """A client without an open stream polls once, when its user was sent a private message with this uuid."""

    conn_id: str
    user: str
    uuid: str
    since: int


@dataclass(frozen=True)
class Read:
    """A client reads everything up to a private message with this uuid, which its user is sent."""

    conn_id: str
    user: str
    uuid: str


Step = Call | Open | Poll | Read


@dataclass
class Draw:
    """Draws steps.

    Attributes:
        users: of each connection that was registered.
        streams: the connections with an open stream.
        sent: the recipients of each message, by its uuid.
    """

    random: Random
    users: dict[str, str] = field(default_factory=dict)
    streams: list[str] = field(default_factory=list)
    sent: dict[str, dict[str, Any]] = field(default_factory=dict)
    _uuids: int = 0

    def steps(self, count: int) -> list[Step]:
        """Return about so many steps; at the end all streams are read."""
        steps: list[Step] = []
        kinds = list(KINDS)
        while len(steps) < count:
            (kind,) = self.random.choices(kinds, [KINDS[each] for each in kinds])
            steps += kind(self)
        return [*steps, *(step for conn_id in self.streams for step in self.read(conn_id)), *self.info()]

    # -- parts of bodies

    def some(self, of: tuple[str, ...], least: int = 0) -> list[str]:
        return self.random.sample(of, self.random.randint(least, 3))

    def maybe(self, **values: Callable[[], Any]) -> dict[str, Any]:
        return {key: value() for key, value in values.items() if self.random.random() < 0.35}

    def bool(self) -> bool:
        return self.random.random() < 0.6

    def uuid(self) -> str:
        self._uuids += 1
        return f"00000000-0000-4000-8000-{self._uuids:012}"

    def since(self) -> int:
        return self.random.choice([NO_POSITION, UNREADABLE, *(self.random.randrange(1000) for _ in range(8))])

    def state(self) -> dict[str, Any]:
        return {key: self.random.choice([1, 0, -2.5, "x", "é", True, None]) for key in self.some(KEYS)}

    def settings(self) -> dict[str, Any]:
        bounds = {
            "history_size": lambda: self.random.choice([0, 2, 10]),
            "log_events": lambda: self.random.choice([0, 4, 500]),
        }
        return {name: self.bool() for name in self.some(SWITCHES)} | self.maybe(**bounds)

    def configs(self) -> dict[str, Any]:
        return {name: self.settings() for name in self.some(CHANNELS)}

    def asked(self) -> dict[str, Any]:
        flags = ("include_history", "include_users", "return_public_state")
        return self.maybe(
            channels=lambda: self.some(CHANNELS),
            exclude_channels=lambda: self.some(CHANNELS),
            **dict.fromkeys(flags, self.bool),
        )

    def recipients(self) -> dict[str, Any]:
        channel = {"channel": self.random.choice(CHANNELS)} if self.random.random() < 0.8 else {}
        return channel | self.maybe(pm_users=lambda: self.some(USERS), exclude_users=lambda: self.some(USERS))

    def payload(self) -> dict[str, Any]:
        return self.maybe(
            message=lambda: self.random.choice([None, 1, "t", {"n": self._uuids}, [], "x" * 2000])
        )

    # -- steps

    def connect(self) -> list[Step]:
        conn_id = self.random.choice(CONNECTIONS)
        user = self.users.setdefault(conn_id, self.random.choice(USERS))
        more = self.maybe(
            user_state=self.state,
            fresh_user_state=self.state,
            state_public_keys=lambda: self.some(KEYS),
            channel_configs=self.configs,
            info=self.asked,
            since=self.since,
        )
        key = self.random.choice(["username", "user"])
        return [
            Call("POST", "/connect", {key: user, "conn_id": conn_id, "channels": self.some(CHANNELS), **more})
        ]

    def subscribe(self) -> list[Step]:
        more = self.maybe(channel_configs=self.configs, info=self.asked, since=self.since)
        body = {"conn_id": self.random.choice(CONNECTIONS), "channels": self.some(CHANNELS, 1), **more}
        return [Call("POST", "/subscribe", body)]

    def unsubscribe(self) -> list[Step]:
        body = {"conn_id": self.random.choice(CONNECTIONS), "channels": self.some(CHANNELS, 1)}
        return [Call("POST", "/unsubscribe", body)]

    def set_state(self) -> list[Step]:
        body = self.maybe(user_state=self.state, state_public_keys=lambda: self.some(KEYS))
        return [Call("POST", "/user_state", {"user": self.random.choice(USERS), **body})]

    def configure(self) -> list[Step]:
        return [Call("POST", "/channel_config", self.configs())]

    def info(self) -> list[Step]:
        body = self.random.choice([{"info": self.asked()}, {"channels": self.some(CHANNELS)}, {}])
        return [Call("POST", "/info", body)]

    def message(self, *, may_repeat: bool = False) -> dict[str, Any]:
        repeats = may_repeat and self.sent and self.random.random() < 0.3
        uuid = self.random.choice(list(self.sent)) if repeats else self.uuid()
        to = self.sent.setdefault(uuid, self.recipients())
        more = self.maybe(no_history=self.bool, timestamp=lambda: "2020-01-01T00:00:00Z")
        return {"uuid": uuid, "user": self.random.choice(USERS), **to, **self.payload(), **more}

    def publish(self) -> list[Step]:
        # Only the first: in SQLite the log still has what a message before it in the list will drop.
        items = [self.message(may_repeat=True), *(self.message() for _ in range(self.random.randint(0, 3)))]
        return [Call("POST", "/message", items)]

    def change(self) -> list[Step]:
        """Edit or delete a message, mostly one of the latest, for those it was sent to."""
        if not self.sent:
            return []
        uuid = self.random.choice(list(self.sent)[-10:])
        others = self.recipients()
        to = self.sent[uuid] if self.random.random() < 0.85 else others
        edit = self.payload() | self.maybe(user=lambda: "zoë", edited=lambda: "2020-02-01T00:00:00Z")
        method, more = self.random.choice([("PATCH", edit), ("DELETE", {})])
        return [Call(method, "/message", [{"uuid": uuid, **to, **more}])]

    def open(self) -> list[Step]:
        if not self.users:
            return []
        conn_id, before = self.random.choice(list(self.users)), list[Step]()
        if conn_id in self.streams:
            before = self.read(conn_id)
        else:
            self.streams.append(conn_id)
        return [*before, Open(conn_id, self.since()), *self.read(conn_id)]

    def poll(self) -> list[Step]:
        idle = [conn_id for conn_id in self.users if conn_id not in self.streams]
        if not idle:
            return []
        conn_id = self.random.choice(idle)
        return [Poll(conn_id, self.users[conn_id], self.uuid(), self.since())]

    def read(self, conn_id: str) -> list[Step]:
        return [Read(conn_id, self.users[conn_id], self.uuid())]

    def read_one(self) -> list[Step]:
        return self.read(self.random.choice(self.streams)) if self.streams else []

    def end(self) -> list[Step]:
        conn_id = self.random.choice(CONNECTIONS)
        before = self.read(conn_id) if conn_id in self.streams else []
        self.users.pop(conn_id, None)
        self.streams = [each for each in self.streams if each != conn_id]
        return [*before, Call("GET", f"/disconnect?conn_id={conn_id}", None)]


KINDS: Mapping[Callable[[Draw], list[Step]], int] = MappingProxyType(
    {
        Draw.connect: 14,
        Draw.subscribe: 8,
        Draw.unsubscribe: 6,
        Draw.set_state: 7,
        Draw.configure: 4,
        Draw.info: 6,
        Draw.publish: 22,
        Draw.change: 10,
        Draw.open: 9,
        Draw.poll: 6,
        Draw.read_one: 4,
        Draw.end: 3,
    }
)
"""What is drawn, and how often."""
