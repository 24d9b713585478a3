"""Measures stalls of a server's event loop: the wait of a small request, and the longest turn that the server reports."""

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
    """Return the longest turn of the server's event loop since its start."""
    connection = await open_http(wire, wire.tls_context())
    try:
        body = await connection.call(wire.get(TURNS_PATH, wire.signed("GET", TURNS_PATH)))
    finally:
        connection.close()
    return msgspec.json.decode(body, type=_Turns).longest_turn_ms


async def probe(wire: Wire, duration_s: float) -> Histogram:
    """Send requests at a fixed interval, and return the times to the answers.

    A request that is delayed by an unanswered older one counts from the time at which it was due. So a long stall is not
    recorded as a single slow answer.
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
