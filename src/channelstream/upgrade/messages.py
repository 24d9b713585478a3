"""What the two processes of an upgrade send each other besides the state itself."""

from dataclasses import replace
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from channelstream import logs
from channelstream.config import Settings
from channelstream.errors import CannotHandOver
from channelstream.upgrade.line import Part

HELLO, TERMS, SET = "hello", "terms", "set"
"""The new process introduces itself; is given the terms; accepts them, and its body is `Report.not_changed`."""
COPIED, BUILT = "copied", "built"
"""The old process has sent a copy; the new one has built everything from what it has."""
END, READY = "end", "ready"
"""The old process has sent all of its state; the new one could serve with it."""
COMMIT, BEGINS, BEGUN, ATTACHED = "commit", "begins", "begun", "attached"
"""The new process may begin; it does so now; it answers calls; it serves all streams, too."""
FAILED = "failed"
"""The new process cannot go on, and ends."""
REPORT = "report"
"""The answer of a server that was asked to upgrade, or FAILED."""
DONE = "done"
"""With FAILED, the results of upgrades."""
MAX_REASON = 1000
"""Longest reason of a failure that is sent, in characters."""
NOUNS = {
    "websocket": "WebSocket",
    "sse": "event stream",
    "http": "idle HTTP connection",
    "ended": "ended stream",
}
"""What a report counts, in words."""

M = TypeVar("M", bound="Message")


class Message(Struct, frozen=True):
    """A body of named fields, of which a newer version may send more than are read."""

    def part(self, kind: str) -> Part:
        return Part(kind, msgspec.json.encode(self))

    @classmethod
    def of(cls: type[M], part: Part) -> M:
        """Return the message that a part has as its body.

        Raises:
            CannotHandOver: it has other fields.
        """
        try:
            return msgspec.json.decode(part.body, type=cls)
        except msgspec.MsgspecError as error:
            raise CannotHandOver(f"the other version sends another form of {part.kind}: {error}") from error


class Hello(Message, frozen=True):
    """Who takes over.

    Attributes:
        snapshot: the version of the state that it reads.
        version: of the program.
    """

    snapshot: int
    version: str
    pid: int


class KeptOptions(Message, frozen=True, kw_only=True):
    """The options that hold for the program after an upgrade as for the one before.

    Attributes:
        host, port, unix_socket, metrics_host, metrics_port: where the handed-over sockets listen.
        cookie_secret: the key of cookies, which may have been drawn at the start. It holds if the configuration has none.
    """

    host: str
    port: int
    unix_socket: str = ""
    metrics_host: str
    metrics_port: int
    cookie_secret: str

    def applied_to(self, configured: Settings) -> Settings:
        """Return the settings of the program after the upgrade, by its configuration and these options."""
        cookie_secret = configured.cookie_secret or self.cookie_secret
        return replace(configured, **kept_options(self) | {"cookie_secret": cookie_secret})

    def not_changed_by(self, configured: Settings) -> str:
        """Return which options of the configuration have no effect, and what to do; empty if there is none."""
        asked = {name: getattr(configured, name) for name in kept_options(self) if name != "cookie_secret"}
        if not configured.port:
            del asked["port"]  # Any free one is as good.
        shown = [
            f"{name} from {getattr(self, name)!r} to {value!r}"
            for name, value in asked.items()
            if value != getattr(self, name)
        ]
        return f"an upgrade does not change {', '.join(shown)}: restart the service for that" if shown else ""


def kept_options(of: Settings | KeptOptions) -> dict[str, Any]:
    """Return the fields of `KeptOptions`."""
    return {name: getattr(of, name) for name in KeptOptions.__struct_fields__}


class Terms(KeptOptions, frozen=True, kw_only=True):
    """What the new process takes from the old one, whatever its own configuration says.

    Attributes:
        upgrades: how many there were since the service was started, by their result; this one is done.
        workers: how many processes share the port.
        worker: the number of this one.
        directory: of the sockets on which they ask each other; empty: there is none.
    """

    upgrades: dict[str, int]
    workers: int = 1
    worker: int = 0
    directory: str = ""


class Failure(Message, frozen=True):
    """Why the new process cannot go on, or why a request to upgrade has failed.

    Attributes:
        goes_on: whether the process that was asked serves as before.
    """

    reason: str
    goes_on: bool = True


class Report(Message, frozen=True):
    """A finished upgrade.

    Attributes:
        old_version, version: of the program, before and now.
        pid: of the process that serves now.
        tally: how many sockets of each kind are handed over; `ended`: how many streams are not, and resume.
        calls_s: from when calls wait until they are answered again, in seconds.
        streams_s: from then until all streams are served again; None if the process that was asked has not waited so long.
        not_changed: the options of the configuration that have no effect before a restart, in a sentence, if there are any.
    """

    old_version: str
    version: str
    pid: int
    tally: dict[str, int]
    calls_s: float
    streams_s: float | None
    not_changed: str = ""

    @property
    def line(self) -> str:
        """The whole report in a line."""
        return (
            f"upgraded from {self.old_version} to {self.version}: process {self.pid} serves, and was handed over"
            f" {self.handed_over}; {self.waits}"
        )

    @property
    def handed_over(self) -> str:
        """What was handed over, with its counts."""
        counts = [
            logs.counted(self.tally[kind], noun) for kind, noun in NOUNS.items() if self.tally.get(kind)
        ]
        return ", ".join(counts) or "no connection"

    @property
    def waits(self) -> str:
        """How long calls and streams waited, in words."""
        calls = f"calls waited for {1000 * self.calls_s:.0f} ms"
        if self.streams_s is None:
            return f"{calls}, and streams are still continued one after the other"
        return f"{calls}, and all streams were served again after {1000 * self.streams_s:.0f} ms"
