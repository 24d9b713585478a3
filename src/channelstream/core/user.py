"""A user: its state, which keys of it are public, and its log of private messages."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from channelstream.core.log import Log
from channelstream.core.position import Offsets

_encode = msgspec.json.Encoder().encode

StateValue = str | int | float | bool | None
State = dict[str, StateValue]

_NO_STATE: State = {}
"""The state, and the public state, of every user who has none: an object is replaced and never changed."""
_NOWHERE: set[str] = set()
"""The channels of every user who is in none: a set that was emptied takes 8 KB after 100 of them. It is never changed."""
MAX_STATE_KEYS = 256
"""Most keys of a user's state; the API refuses more with 422."""
MAX_STATE_BYTES = 65_536
"""Most bytes of a user's state, keys and values as JSON, likewise; channels are sent all public keys."""
TOO_MANY_KEYS = f"A user's state may have at most {MAX_STATE_KEYS} keys."
TOO_MANY_BYTES = f"A user's state may have at most {MAX_STATE_BYTES} bytes, keys and values as JSON."


class User:
    """A user, known while it is connected and for `gc_users_after_s` afterwards.

    Attributes:
        id: a UUID made by the server, shown by the admin pages.
        state: free key-value pairs set by the application.
        public_keys: the keys of `state` that other users may see.
        listed: (name, public state) for lists of users: the same object until it changes.
        channels: names of the channels of its connections.
        connections: their number.
        last_active_s: epoch seconds of the last request or connection, for display.
        idle_since_s: the same moment by the engine's clock, for measuring the idle time.
        log: private messages outside channels.
        older: its neighbours in the order of idle users, which `core.linked_order` sets; None at the ends, and while it has
            connections.
        newer: likewise.
    """

    __slots__ = (
        "channels",
        "connections",
        "id",
        "idle_since_s",
        "last_active_s",
        "listed",
        "log",
        "name",
        "newer",
        "older",
        "public_keys",
        "state",
    )

    def __init__(self, name: str, user_id: str, log: Log, now_s: float) -> None:
        self.name = name
        self.id = user_id
        self.state = _NO_STATE
        self.public_keys: tuple[str, ...] = ()
        self.channels = _NOWHERE
        self.connections = 0
        self.last_active_s = now_s
        self.idle_since_s = 0.0
        self.older: User | None = None
        self.newer: User | None = None
        self.log = log
        self.listed: tuple[str, State] = (name, _NO_STATE)

    @property
    def public_state(self) -> State:
        return self.listed[1]

    def enter(self, channel: str) -> None:
        """Add a channel that a connection of the user is in."""
        if self.channels is _NOWHERE:
            self.channels = set()
        self.channels.add(channel)

    def exit(self, channel: str) -> None:
        """Remove a channel that no connection of the user is in any more."""
        self.channels.discard(channel)
        if not self.channels:
            self.channels = _NOWHERE

    def _update_listed(self) -> None:
        """Replace the public state by a new object: events keep the one that they were made with."""
        public = {key: self.state[key] for key in self.public_keys if key in self.state}
        self.listed = (self.name, public)

    def restore(self, state: State, keys: Iterable[str]) -> None:
        """Set the state and its public keys."""
        self.state = state
        self.public_keys = tuple(dict.fromkeys(keys))
        self._update_listed()

    def update_state(self, values: Mapping[str, StateValue]) -> list[tuple[str, StateValue]]:
        """Set values, a null removes its key; return the pairs that changed, sorted by key."""
        if not values:
            return []
        changed = [(key, value) for key, value in sorted(values.items()) if _differs(self.state, key, value)]
        if changed:
            state = dict(self.state)
            _set(state, changed)
            self.state = state
            self._update_listed()
        return changed

    def exceeded_limit(self, *updates: Mapping[str, StateValue]) -> str | None:
        """Return the error text of the bound that these updates, in order, would exceed; None if they exceed none.

        A state that is too large already may stay so, but not grow.
        """
        state = dict(self.state)
        for values in updates:
            _set(state, values.items())
        if len(state) > MAX_STATE_KEYS:
            return TOO_MANY_KEYS
        size = state_bytes(state)
        return TOO_MANY_BYTES if size > MAX_STATE_BYTES and size > state_bytes(self.state) else None

    def publish_keys(self, keys: Iterable[str]) -> None:
        """Make exactly these keys public."""
        public_keys = tuple(dict.fromkeys(keys))
        if public_keys != self.public_keys:
            self.public_keys = public_keys
            self._update_listed()


class UserUpdate(Struct, frozen=True):
    """Changes of a user that a request asks for.

    Attributes:
        values: state to set; a null removes the key.
        fresh: state to set first if the user is new.
        public_keys: replaces the keys that are public; None keeps them.
        add_public: keys that become public in addition.
        first: the whole state of a user without a connection, in place of what it was before, and all of it public; None
            replaces nothing. Only a new connection has it, and it has no effect if the user has another one.
    """

    values: Mapping[str, StateValue]
    fresh: Mapping[str, StateValue]
    public_keys: Sequence[str] | None = None
    add_public: Sequence[str] = ()
    first: Mapping[str, StateValue] | None = None

    def of_first(self, state: Mapping[str, StateValue]) -> "UserUpdate":
        """Return the update of a user without a connection that has this state: `first` replaces it."""
        if self.first is None:
            return self
        values = {**dict.fromkeys(state), **self.first, **self.values}
        return replace(self, values=values, public_keys=tuple(self.first), first=None)


class UserChange(Struct, frozen=True):
    """A user after an update.

    Attributes:
        changed: the (key, value) pairs that changed.
        offsets: the user has missed no event up to these offsets.
    """

    user: User
    changed: list[tuple[str, StateValue]]
    offsets: Offsets


def is_changed(before: State, after: State, key: str) -> bool:
    """Whether a key that is in at least one of two states differs between them."""
    return (key in before) != (key in after) or _differs(before, key, after[key])


def state_bytes(state: State) -> int:
    """Return the bytes of keys and values as JSON."""
    return sum(len(_encode(key)) + len(_encode(value)) for key, value in state.items())


def _set(state: State, values: Iterable[tuple[str, StateValue]]) -> None:
    for key, value in values:
        if value is None:
            state.pop(key, None)
        else:
            state[key] = value


def _differs(state: State, key: str, value: StateValue) -> bool:
    """Compare type and value: 1 and true are equal in Python, but not in JSON."""
    old = state.get(key)
    return old != value or type(old) is not type(value)
