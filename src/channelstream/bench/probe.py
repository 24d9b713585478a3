"""The stalls of a server's loop: how long one small request waits, and what the server says of its longest turn."""

import asyncio
import time

import msgspec

from channelstream.bench.histogram import Histogram
from channelstream.bench.http import open_http
from channelstream.bench.wire import Wire

INTERVAL_S = 0.005
PATH = "/disconnect?conn_id=nobody-of-this-name"
"""The smallest call that needs no signature and changes nothing."""
TURNS_PATH = "/admin/data/slow_turns"


class _Turns(msgspec.Struct):
    longest_turn_ms: float


async def longest_turn_ms(wire: Wire) -> float:
    """Ask the product how long the longest turn of its loop was, since its start."""
    connection = await open_http(wire, wire.tls_context())
    try:
        body = await connection.call(wire.get(TURNS_PATH, wire.signature(TURNS_PATH)))
    finally:
        connection.close()
    return msgspec.json.decode(body, type=_Turns).longest_turn_ms


async def probe(wire: Wire, duration_s: float) -> Histogram:
    """Ask the server at a steady pace, and return how long it took to answer.

    A request that could not be sent in time because an older one was not answered counts from the time it was due, so that
    a long stall is not seen as one slow answer only.
    """
    waits = Histogram()
    connection = await open_http(wire, wire.tls_context())
    request = wire.get(PATH)
    start = due = time.monotonic()
    answered = 0.0
    while due - start < duration_s:
        await asyncio.sleep(due - time.monotonic())
        begun = due if answered > due else time.monotonic()
        await connection.call(request)
        answered = time.monotonic()
        waits.add(int((answered - begun) * 1e9))
        due += INTERVAL_S
    connection.close()
    return waits
