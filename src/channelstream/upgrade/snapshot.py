"""The snapshot: what one process hands over to another, as parts of a line.

| kind | body | descriptors |
| --- | --- | --- |
| `listening`, `metrics` | whether the path of a unix socket is removed at the end | listening sockets |
| `streams` | a list of `StreamRecord`, which are numbered as they come | one for each |
| `left` | the numbers of streams that are not handed over after all, or come again as they are now | |
| `http` | a list of the bytes received on each connection | one for each |
| `connections` | records of `service.moving`, cut where a part is full | |
| `state` | records of the engine, likewise | |
| `nonces` | an application, and a list of `core.nonces.Row`: the signed requests that it has answered | |
| `revocations` | a list of `service.revocations.Revocation` | |

All bodies are MessagePack but those of `connections` and `state`, which are parts of one text each: a length of four bytes
before each record.
"""

from collections.abc import AsyncIterator, Iterable, Iterator

import msgspec

from channelstream.core.nonces import Row
from channelstream.service.revocations import Revocation
from channelstream.transports.moving import StreamRecord
from channelstream.upgrade.line import MAX_DESCRIPTORS, Part

SNAPSHOT_VERSION = 7
"""Grows with every change of a record, or of the stored form of events: another version is refused before the freeze."""
LISTENING, METRICS, STREAMS, LEFT, HTTP, CONNECTIONS, STATE, NONCES, REVOCATIONS = (
    "listening", "metrics", "streams", "left", "http", "connections", "state", "nonces", "revocations",
)  # fmt: skip
NONCES_AT_ONCE = 10_000
"""In a part, which has fewer than `PART_BYTES` then."""
REVOCATIONS_AT_ONCE = 1_000
"""Likewise."""
PART_BYTES = 1 << 20
"""A part is full with so many bytes."""
MAX_BYTES = 2 << 30
"""Most bytes of all parts together; a process does not take over more."""
_LENGTH_BYTES = 4

encode = msgspec.msgpack.Encoder().encode
read_flag = msgspec.msgpack.Decoder(bool).decode
read_streams = msgspec.msgpack.Decoder(list[StreamRecord]).decode
read_numbers = msgspec.msgpack.Decoder(list[int]).decode
read_nonces = msgspec.msgpack.Decoder(tuple[str, list[Row]]).decode
read_revocations = msgspec.msgpack.Decoder(list[Revocation]).decode
read_texts = msgspec.msgpack.Decoder(list[bytes]).decode


def with_descriptors(kind: str, records: Iterable[tuple[int, object, int]]) -> Iterator[Part]:
    """Yield the parts of records that have a descriptor each.

    Args:
        records: each with its descriptor, the record, and about how many bytes it has.
    """
    descriptors, bodies, size = list[int](), list[object](), 0
    for descriptor, record, record_bytes in records:
        if bodies and (len(bodies) == MAX_DESCRIPTORS or size + record_bytes > PART_BYTES):
            yield Part(kind, encode(bodies), tuple(descriptors))
            descriptors, bodies, size = [], [], 0
        descriptors.append(descriptor)
        bodies.append(record)
        size += record_bytes
    if bodies:
        yield Part(kind, encode(bodies), tuple(descriptors))


async def cut(kind: str, records: AsyncIterator[bytes]) -> AsyncIterator[Part]:
    """Yield the parts of records, of any length each."""
    waiting = bytearray()
    async for record in records:
        waiting += len(record).to_bytes(_LENGTH_BYTES) + record
        while len(waiting) >= PART_BYTES:
            yield Part(kind, bytes(waiting[:PART_BYTES]))
            del waiting[:PART_BYTES]
    yield Part(kind, bytes(waiting))


class Records:
    """Takes the parts of `cut`, and gives the records of which all is here.

    Attributes:
        has_any: at least one part was taken.
    """

    def __init__(self) -> None:
        self.has_any = False
        self._waiting = b""

    @property
    def is_whole(self) -> bool:
        """Whether all records are whole; there may be none."""
        return self.has_any and not self._waiting

    def take(self, body: bytes) -> list[bytes]:
        """Take the body of the next part, and return the records that are whole with it."""
        self.has_any = True
        text, at, found = self._waiting + body, 0, list[bytes]()
        while (begin := at + _LENGTH_BYTES) <= len(text):
            end = begin + int.from_bytes(text[at:begin])
            if end > len(text):
                break
            found.append(text[begin:end])
            at = end
        self._waiting = text[at:]
        return found
