"""What the conductor of a run and its worker processes tell each other: JSON lines on the workers' stdin and stdout."""

import msgspec
from msgspec import Struct

from channelstream.bench.checker import Faults
from channelstream.bench.load import Load
from channelstream.bench.wire import Wire


class Start(Struct, tag=True, frozen=True):
    """The first order.

    Attributes:
        run: name of the run; users and channels are named after it.
    """

    wire: Wire
    load: Load
    run: str


class Register(Struct, tag=True, frozen=True):
    """Call /connect for clients from number `first` on."""

    first: int
    count: int


class Attach(Struct, tag=True, frozen=True):
    """Open the streams of the clients that were registered last."""


class Finish(Struct, tag=True, frozen=True):
    """Wait until every client has received everything, then report.

    Attributes:
        sent: publisher, channel, and how many messages went from one to the other.
        quiet_s: how long nothing may come before what is missing counts as lost.
    """

    sent: list[tuple[int, int, int]]
    quiet_s: float


class Done(Struct, tag=True, frozen=True):
    """The order was carried out."""


class Tick(Struct, tag=True, frozen=True):
    """Messages this worker's clients have received so far."""

    received: int


class Failed(Struct, tag=True, frozen=True):
    """The order could not be carried out."""

    reason: str


class Result(Struct, tag=True, frozen=True):
    """What the clients of one worker have seen; `counts` and `max_ns` are those of the latency's histogram.

    Attributes:
        cpu_s: processor time of the worker since its last client was attached.
        last_ns: when the last message came.
    """

    received: int
    lost: int
    bytes: int
    faults: Faults
    closed: dict[str, int]
    counts: dict[int, int]
    max_ns: int
    last_ns: int
    cpu_s: float


Order = Start | Register | Attach | Finish
Answer = Done | Tick | Failed | Result

_encode = msgspec.json.Encoder().encode


def to_line(message: Order | Answer) -> bytes:
    return _encode(message) + b"\n"


def order_from(line: bytes) -> Order:
    order: Order = msgspec.json.decode(line, type=Order)
    return order


def answer_from(line: bytes) -> Answer:
    answer: Answer = msgspec.json.decode(line, type=Answer)
    return answer
