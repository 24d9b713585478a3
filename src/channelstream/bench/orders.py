"""Messages between the main process and its workers: JSON lines on the workers' stdin and stdout."""

import msgspec
from msgspec import Struct

from channelstream.bench.checker import Faults
from channelstream.bench.load import Load
from channelstream.bench.wire import Wire


class Start(Struct, tag=True, frozen=True):
    """The first order.

    Attributes:
        run: name of the run; prefix of the names of users and channels.
    """

    wire: Wire
    load: Load
    run: str


class Register(Struct, tag=True, frozen=True):
    """Call /connect for `count` clients from number `first` on."""

    first: int
    count: int


class Attach(Struct, tag=True, frozen=True):
    """Open the streams of the clients that were registered last."""


class Finish(Struct, tag=True, frozen=True):
    """Wait until every client has received everything, then report.

    Attributes:
        sent: publisher, channel, and number of messages.
        quiet_s: time without receipts after which missing messages count as lost.
    """

    sent: list[tuple[int, int, int]]
    quiet_s: float


class Done(Struct, tag=True, frozen=True):
    """The order is done."""


class Tick(Struct, tag=True, frozen=True):
    """Number of messages that this worker's clients have received so far."""

    received: int


class Failed(Struct, tag=True, frozen=True):
    """The order failed."""

    reason: str


class Result(Struct, tag=True, frozen=True):
    """The results of the clients of one worker. `counts` and `max_ns` are those of the latency histogram.

    Attributes:
        cpu_s: CPU of the worker since its last client was attached.
        last_ns: time of the last receipt.
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
