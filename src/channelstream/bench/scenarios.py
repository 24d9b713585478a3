"""The predefined scenarios. Each answers one question by one or more runs."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from channelstream.bench.load import Load
from channelstream.bench.pusher import FLAGS
from channelstream.bench.servers import Reference, missing_for

Outage = Literal["restart", "drain", "spread drain", "upgrade", "upgrade of SQLite", "upgrade of Redis"]


@dataclass(frozen=True, slots=True)
class Step:
    """One run of a scenario.

    Attributes:
        flags: options of the server, if the run starts one.
        reference: the reference server for the same load; None means none.
        rounds: how often reference and server take turns; the report has medians. Once if messages are delivered or
            requests timed, since the report has more of these than one figure.
        outage: what happens to the server: `restart` kills it and starts it again, `drain` and `spread drain` stop one of
            three nodes, the others upgrade it, with an engine; None means nothing.
    """

    label: str
    load: Load
    flags: tuple[str, ...] = ()
    reference: Reference | None = "broadcast"
    rounds: int = 1
    outage: Outage | None = None

    @property
    def turns(self) -> int:
        """How often it is measured."""
        load = self.load
        return 1 if load.idle_s or (load.clients and load.publishes) else self.rounds

    @property
    def comparable(self) -> Reference | None:
        """The reference, if it can do what the load asks for: none compresses or polls, that for calls has no clients."""
        load = self.load
        is_beyond = load.deflate or load.transport == "poll" or (self.reference == "api" and load.clients)
        return None if is_beyond else self.reference

    @property
    def server_flags(self) -> tuple[str, ...]:
        """The options of the server, with the one that the load needs."""
        return (*self.flags, *(("--compression", "true") if self.load.deflate else ()))


@dataclass(frozen=True, slots=True)
class Scenario:
    """A question, and the runs that answer it."""

    name: str
    question: str
    steps: tuple[Step, ...]

    def changed(self, changes: dict[str, Any]) -> "Scenario":
        """Return the scenario with other parameters in all steps."""
        steps = tuple(
            replace(step, load=msgspec.structs.replace(step.load, **changes)) for step in self.steps
        )
        return Scenario(self.name, self.question, steps)

    def missing_reference(self) -> str:
        """Return why a reference of the steps cannot be started, as a sentence; empty if all can."""
        kinds = {step.comparable for step in self.steps if step.comparable is not None}
        return next(filter(None, map(missing_for, kinds)), "")


def _channels(count: int) -> Step:
    return Step(f"{count} channel(s)", Load(clients=1000, channels=count, messages=200))


def _drained(label: str, outage: Outage) -> Step:
    return Step(label, Load(clients=15_000, messages=0), reference=None, outage=outage)


def _upgraded(name: str, engine: str, outage: Outage) -> Scenario:
    load = Load(clients=300, messages=0, rate_per_s=20, publishers=4)
    return Scenario(
        name,
        f"ten upgrades of a server with {engine}, under load: what clients and publishers notice",
        (Step(f"upgraded, {engine}", load, reference=None, outage=outage),),
    )


def _for_pusher(name: str, question: str, load: Load) -> Scenario:
    """Return two runs with the same load: native clients, and clients of Pusher's protocol."""
    pusher = msgspec.structs.replace(load, pusher=True)
    return Scenario(
        name, question, (Step("native", load, reference=None), Step("Pusher", pusher, FLAGS, None))
    )


_TEXTS = Load(clients=1000, messages=100, payload_bytes=1000)

_ALL = (
    Scenario(
        "fanout-1000",
        "cost of a delivery: 8 publishers, as fast as possible, to 1,000 WebSockets",
        (Step("1,000 clients", Load(clients=1000, messages=200)),),
    ),
    Scenario(
        "fanout-10000",
        "the same with 10,000 WebSockets",
        (Step("10,000 clients", Load(clients=10_000, messages=60)),),
    ),
    Scenario(
        "single",
        "cost of a delivery of single messages, 50 a second, which cannot share a write",
        (Step("50/s", Load(clients=1000, messages=250, rate_per_s=50, publishers=1)),),
    ),
    Scenario(
        "sse",
        "fanout-1000 with event streams (SSE)",
        (Step("SSE", Load(clients=1000, messages=200, transport="sse")),),
    ),
    Scenario(
        "poll",
        "5 messages a second to 1,000 long polls; each delivery takes a request",
        (Step("long poll", Load(clients=1000, messages=50, transport="poll", rate_per_s=5, publishers=1)),),
    ),
    Scenario(
        "channels",
        "cost of a delivery with 1, 10 and 50 channels for each connection",
        tuple(_channels(count) for count in (1, 10, 50)),
    ),
    Scenario(
        "idle",
        "memory of 10,000 idle connections, and the longest stall of the server with them",
        (Step("10,000 idle", Load(clients=10_000, messages=0, idle_s=20)),),
    ),
    Scenario(
        "publish",
        "accepted messages a second without subscribers, one in a call and 100 in a call",
        (
            Step("one each", Load(clients=0, messages=20_000, publishers=16), reference="api", rounds=3),
            Step("lists of 100", Load(clients=0, messages=200_000, items=100), reference="api", rounds=3),
        ),
    ),
    Scenario(
        "connect",
        "registered connections and opened streams a second, and the CPU of each",
        (Step("3,000 clients", Load(clients=3000, messages=0), rounds=5),),
    ),
    Scenario(
        "restart",
        "time until 15,000 clients have resumed after a server on SQLite was killed and started again",
        (Step("killed", Load(clients=15_000, messages=0), reference=None, outage="restart"),),
    ),
    Scenario(
        "drain",
        "calls while the 15,000 clients of one of three nodes on Redis come back at the others, at once and spread",
        (_drained("at once", "drain"), _drained("100 a second", "spread drain")),
    ),
    _upgraded("upgrade", "the memory engine", "upgrade"),
    _upgraded("upgrade-sqlite", "SQLite", "upgrade of SQLite"),
    _upgraded("upgrade-redis", "Redis", "upgrade of Redis"),
    _for_pusher(
        "pusher",
        "fanout-1000 with clients of Pusher's protocol, which get each event in a frame of its own, and with native ones",
        Load(clients=1000, messages=200),
    ),
    _for_pusher(
        "pusher-single",
        "single with clients of Pusher's protocol, and with native ones",
        Load(clients=1000, messages=250, rate_per_s=50, publishers=1),
    ),
    Scenario(
        "compression",
        "bytes saved and CPU spent by permessage-deflate, with messages of 1,000 bytes",
        (
            Step("plain", _TEXTS, reference=None),
            Step("compressed", msgspec.structs.replace(_TEXTS, deflate=True)),
        ),
    ),
)

SCENARIOS = {scenario.name: scenario for scenario in _ALL}
QUICK = ("fanout-1000", "single", "sse", "publish", "connect")
"""The scenarios of `make bench`: less than three minutes on two slow cores."""
