"""What each call of the API costs a server: `python -m channelstream.bench.calls`.

The calls take turns in one run, over the same keep-alive connections, so that their figures can be compared: the more
requests wait, the less each of them costs. All requests of a turn are built before its clock starts. They are small, with
an old signature of the path, and about users with one connection in a channel, or about a channel that nobody is in.
"""

import argparse
import asyncio
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from statistics import median
from typing import Any

import msgspec

from channelstream.bench.http import HttpConnection, open_http
from channelstream.bench.load import failing_as_one
from channelstream.bench.measure import Stopwatch, Target
from channelstream.bench.question import answer, options_of, positive
from channelstream.bench.servers import product

FLAGS = ("--unattached-timeout-s", "600")
"""Lets connections, which open no stream, wait for the other calls of their turn."""
BESIDE = "/message"
"""The call with which the others are compared."""

_BRIEF = {"include_history": False, "include_users": False}
"""Else an answer would list all users of the turn."""

CALLS: dict[str, Callable[[int, str], dict[str, Any]]] = {
    BESIDE: lambda user, _: {"channel": "quiet", "user": f"user-{user}", "message": {"text": "x" * 100}},
    "/channel_config": lambda user, _: {"quiet": {"history_size": user % 10}},
    "/info": lambda _, __: {"info": {"channels": ["quiet"], **_BRIEF}},
    "/connect": lambda user, _: {"username": f"user-{user}", "channels": ["room"], "info": _BRIEF},
    "/subscribe": lambda _, conn_id: {"conn_id": conn_id, "channels": ["other"], "info": _BRIEF},
    "/user_state": lambda user, _: {"user": f"user-{user}", "user_state": {"color": user}},
    "/unsubscribe": lambda _, conn_id: {"conn_id": conn_id, "channels": ["other"], "info": _BRIEF},
    "/disconnect": lambda _, conn_id: {"conn_id": conn_id},
}
"""The body of each call, of the number of a user and a connection id; in the order of a turn, with which the users end."""


class Turns:
    """Makes the calls of each turn."""

    def __init__(self, target: Target, connections: Sequence[HttpConnection], calls: int) -> None:
        self._target = target
        self._connections = connections
        self._calls = calls
        self._numbers = count()

    async def turn(self) -> dict[str, float]:
        """Return the server's CPU for each call, in microseconds.

        Raises:
            BenchFailed: a call is refused.
        """
        users = [next(self._numbers) for _ in range(self._calls)]
        conn_ids, figures = [""] * self._calls, dict[str, float]()
        for path, body in CALLS.items():
            wire = self._target.wire
            texts = [msgspec.json.encode(body(*each)) for each in zip(users, conn_ids, strict=True)]
            requests = [wire.post(path, text, wire.signature(path)) for text in texts]
            watch = Stopwatch(self._target)
            with watch:
                answers = await self._sent(requests)
            figures[path] = watch.rate(self._calls).cpu_us_each or 0.0
            if path == "/connect":
                conn_ids = [msgspec.json.decode(each)["conn_id"] for each in answers]
        return figures

    async def _sent(self, requests: Sequence[bytes]) -> list[bytes]:
        """Send requests over all connections, each as soon as one is free, and return the answers in no order."""
        answers, waiting = list[bytes](), iter(requests)
        with failing_as_one():
            async with asyncio.TaskGroup() as tasks:
                for connection in self._connections:
                    tasks.create_task(_send(connection, waiting, answers))
        return answers


async def _send(connection: HttpConnection, waiting: Iterator[bytes], answers: list[bytes]) -> None:
    for request in waiting:
        answers.append(await connection.call(request))


async def compare(flags: list[str], at_once: int, calls: int, rounds: int) -> dict[str, float]:
    """Return the median of the CPU of each call, in microseconds."""
    async with product(*FLAGS, *flags) as target:
        connections = [await open_http(target.wire, None) for _ in range(at_once)]
        try:
            turns = Turns(target, connections, calls)
            figures = [await turns.turn() for _ in range(rounds)]
        finally:
            for connection in connections:
                connection.close()
    return {path: median(each[path] for each in figures) for path in CALLS}


async def _run(options: argparse.Namespace) -> None:
    rows = await compare(options.flag, options.at_once, options.calls, options.rounds)
    print(f"{'call':18}{'CPU us':>8}{'beside ' + BESIDE:>18}")
    for path, cpu_us in rows.items():
        print(f"{path:18}{cpu_us:8.1f}{cpu_us / rows[BESIDE]:16.2f} x")


def main() -> None:
    options = options_of("calls", __doc__)
    options.add_argument(
        "--at-once", type=positive, default=16, help="calls that wait at once, each over a connection"
    )
    options.add_argument("--calls", type=positive, default=3_000, help="calls of each turn")
    options.add_argument("--rounds", type=positive, default=9, help="turns of each call")
    answer(options, _run)


if __name__ == "__main__":
    main()
