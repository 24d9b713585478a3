"""Compares channelstream with other servers, under the same load, in one run: `python -m channelstream.bench.peers -h`."""

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import msgspec
from msgspec import Struct

from channelstream.bench.load import BenchFailed, Load
from channelstream.bench.measure import measure
from channelstream.bench.peers import all_peers
from channelstream.bench.peers.peer import Peer
from channelstream.bench.processes import Machine, machine, use_all_descriptors
from channelstream.bench.progress import Progress
from channelstream.bench.results import Delivery, Measured

PACED_PER_S = 50.0
QUIET_S = 60.0
"""A slow server may deliver nothing for a long time, and then all of it."""
_HEAD = (
    "| Server | CPU µs per delivery, flat out | ratio | deliveries/s | CPU µs, paced | p50 ms, paced | p99 ms, paced |"
    " KB per connection | bytes per delivery | lost |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
)


class Row(Struct, frozen=True):
    """The figures of a server: medians of the rounds, but the sum of lost messages.

    Attributes:
        ratio: CPU per delivery without a rate limit, divided by channelstream's; None without channelstream.
        kb_per_connection: None with too few clients to measure memory.
    """

    server: str
    cpu_us: float
    per_s: float
    paced_cpu_us: float
    paced_p50_ms: float
    paced_p99_ms: float
    kb_per_connection: float | None
    bytes_each: float
    lost: int
    ratio: float | None = None


class Comparison(Struct, frozen=True):
    """The JSON document.

    Attributes:
        shares: the part of the messages that slow servers were sent.
    """

    machine: Machine
    flat_out: Load
    paced: Load
    rounds: int
    pinned: bool
    rows: list[Row]
    skipped: dict[str, str]
    shares: dict[str, float]


Round = tuple[Measured, Measured]
"""The measurements of a server without a rate limit, and at a fixed rate."""


def main() -> int:
    args = _arguments()
    use_all_descriptors()
    progress = Progress(sys.stderr)
    flat = Load(clients=args.clients, messages=args.messages)
    paced = Load(clients=args.clients, messages=args.paced_messages, rate_per_s=PACED_PER_S)
    wanted = [name.lower() for name in args.peers.split(",") if name]
    found = [peer for peer in all_peers(args.socketify_python) if not wanted or peer.name.lower() in wanted]
    if unknown := set(wanted) - {peer.name.lower() for peer in found}:
        print(f"Unknown in --peers: {', '.join(sorted(unknown))}.", file=sys.stderr)
        return 2
    skipped = {peer.name: why for peer in found if (why := peer.missing())}
    peers = [peer for peer in found if peer.name not in skipped]
    rounds = asyncio.run(_all_rounds(peers, flat, paced, args.rounds, progress, skipped))
    rows = with_ratios([row_of(name, each) for name, each in rounds.items()])
    shares = {peer.name: peer.share for peer in peers if peer.share != 1 and peer.name in rounds}
    comparison = Comparison(machine(), flat, paced, args.rounds, _cpus() is not None, rows, skipped, shares)
    _write(comparison, args.output)
    return 1 if any(row.lost for row in rows) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, prog="make bench-peers")
    parser.add_argument("--peers", default="", help="names with commas between; without it, all")
    parser.add_argument(
        "--rounds", type=int, default=1, help="number of rounds; the table has their medians (1)"
    )
    parser.add_argument("--clients", type=int, default=1000, help="subscribers (1000)")
    parser.add_argument(
        "--messages", type=int, default=1000, help="messages of the run without a rate limit (1000)"
    )
    parser.add_argument("--paced-messages", type=int, default=250, help="messages at 50 a second (250)")
    parser.add_argument("--output", type=Path, default=Path("bench-results"), help="folder of the reports")
    parser.add_argument(
        "--socketify-python",
        default=os.environ.get("SOCKETIFY_PYTHON", ""),
        help="an interpreter that has socketify (the environment's SOCKETIFY_PYTHON)",
    )
    return parser.parse_args()


async def _all_rounds(
    peers: Sequence[Peer], flat: Load, paced: Load, count: int, progress: Progress, skipped: dict[str, str]
) -> dict[str, list[Round]]:
    """Measure all servers in each round, so that a slow minute of the machine does not affect one server only.

    Args:
        skipped: receives servers that fail under the load. They have no row, and the run continues.
    """
    rounds: dict[str, list[Round]] = {peer.name: [] for peer in peers}
    for number in range(1, count + 1):
        for peer in peers:
            if peer.name in skipped:
                continue
            progress.begin(f"round {number}, {peer.name}")
            try:
                loads = peer.part_of(flat), peer.part_of(paced)
                measured = (
                    await _measured(peer, loads[0], progress),
                    await _measured(peer, loads[1], progress),
                )
            except BenchFailed as error:
                skipped[peer.name] = f"it failed in round {number}: {error}"
                del rounds[peer.name]
            else:
                rounds[peer.name].append(measured)
    return rounds


async def _measured(peer: Peer, load: Load, progress: Progress) -> Measured:
    """Do one run, with server and load on separate cores if there are two."""
    cpus, serving = _cpus(), peer.serve()
    with _pinned_to(cpus and cpus[0]):
        target = await serving.__aenter__()
    try:
        with _pinned_to(cpus and cpus[1]):
            return await measure(replace(target, quiet_s=QUIET_S), load, progress)
    finally:
        await serving.__aexit__(None, None, None)


def _cpus() -> tuple[int, int] | None:
    """Return a core for the server and one for the load; None if there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0], allowed[1]) if len(allowed) > 1 else None


@contextmanager
def _pinned_to(cpu: int | None) -> Iterator[None]:
    """Run the block, and processes that it starts, on one core."""
    before = os.sched_getaffinity(0)
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def row_of(name: str, rounds: Sequence[Round]) -> Row:
    """Return the medians of a server's rounds."""
    flat = [_delivery(each) for each, _ in rounds]
    paced = [_delivery(each) for _, each in rounds]
    memory = [each.memory.kb_per_connection for each, _ in rounds if each.memory is not None]
    return Row(
        server=name,
        cpu_us=median(each.rate.cpu_us_each or 0.0 for each in flat),
        per_s=median(each.rate.per_s for each in flat),
        paced_cpu_us=median(each.rate.cpu_us_each or 0.0 for each in paced),
        paced_p50_ms=median(each.latency_ms.p50 for each in paced),
        paced_p99_ms=median(each.latency_ms.p99 for each in paced),
        kb_per_connection=median(memory) if memory else None,
        bytes_each=median(each.bytes_each for each in flat),
        lost=sum(each.lost for each in (*flat, *paced)),
    )


def _delivery(measured: Measured) -> Delivery:
    if measured.delivery is None:
        raise BenchFailed("nothing was delivered: at least one client and one message are needed")
    return measured.delivery


def with_ratios(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with their ratio to channelstream, if it was measured."""
    ours = next((row.cpu_us for row in rows if row.server == "channelstream"), 0.0)
    if not ours:
        return list(rows)
    return [msgspec.structs.replace(row, ratio=round(row.cpu_us / ours, 2)) for row in rows]


def markdown(comparison: Comparison) -> str:
    """Return the document as Markdown."""
    lines = [_HEAD, *map(_line, comparison.rows), ""]
    lines += [
        f"{name} was sent {share:.0%} of the messages: it would need minutes for all."
        for name, share in comparison.shares.items()
    ]
    lines += [f"{name} was skipped: {why}." for name, why in comparison.skipped.items()]
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    cells = (
        row.server,
        f"{row.cpu_us:.2f}",
        "" if row.ratio is None else f"{row.ratio:.2f}",
        f"{row.per_s:,.0f}",
        f"{row.paced_cpu_us:.2f}",
        f"{row.paced_p50_ms:.1f}",
        f"{row.paced_p99_ms:.1f}",
        "" if row.kb_per_connection is None else f"{row.kb_per_connection:.1f}",
        f"{row.bytes_each:.0f}",
        f"{row.lost}",
    )
    return f"| {' | '.join(cells)} |"


def _write(comparison: Comparison, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    document = msgspec.json.format(msgspec.json.encode(comparison))
    (folder / "peers.json").write_bytes(document + b"\n")
    text = markdown(comparison)
    (folder / "peers.md").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    sys.exit(main())
