"""Measures the cost of the shared engine: every figure of docs/scaling.md (`make bench-engines ARGS=-h` has its options)."""

import argparse
import logging
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec
import uvloop
from msgspec import Struct

from channelstream import __version__
from channelstream.bench.engines.compared import engines
from channelstream.bench.engines.listeners import listeners
from channelstream.bench.engines.nodes import nodes
from channelstream.bench.engines.operations import operations
from channelstream.bench.engines.presence import presence
from channelstream.bench.engines.reckoning import estimates
from channelstream.bench.engines.recovery import recovery
from channelstream.bench.engines.scripts import scripts
from channelstream.bench.engines.sizes import FULL, QUICK, Sizes
from channelstream.bench.engines.table import Table, grid, markdown
from channelstream.bench.load import BenchFailed, failing_as_one
from channelstream.bench.processes import Machine, machine, use_all_descriptors
from channelstream.bench.progress import Progress

Part = Callable[[Sizes, Progress], Awaitable[list[Table]]]

PARTS: dict[str, Part] = {
    "engines": engines,
    "nodes": nodes,
    "operations": operations,
    "presence": presence,
    "listeners": listeners,
    "recovery": recovery,
    "scripts": scripts,
}


_MARKED = re.compile(r"^(<!-- engines: (\S+) -->)\n(?:.+\n)*", re.MULTILINE)


class Document(Struct, frozen=True):
    """The JSON document.

    Attributes:
        time: start of the run, UTC.
        versions: versions of the measured programs.
    """

    time: str
    machine: Machine
    versions: dict[str, str]
    sizes: Sizes
    tables: list[Table]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and return the exit code; without arguments, those of the process count."""
    args = _arguments(argv)
    use_all_descriptors()
    # The recovery part makes Redis lose everything on purpose, so warnings about it are not shown.
    logging.getLogger("channelstream").setLevel(logging.ERROR)
    progress = Progress(sys.stderr)
    names = args.only.split(",") if args.only else list(PARTS)
    if unknown := set(names) - set(PARTS):
        print(f"Unknown in --only: {', '.join(sorted(unknown))}.", file=sys.stderr)
        return 2
    sizes = QUICK if args.quick else FULL
    time = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        with failing_as_one():
            tables = uvloop.run(_measured(names, sizes, progress))
    except BenchFailed as error:
        progress.clear()
        print(f"bench-engines: {error}", file=sys.stderr)
        return 1
    progress.clear()
    document = Document(time, machine(), _versions(), sizes, tables)
    _write(document, args.output)
    if args.into:
        args.into.write_text(filled(args.into.read_text(), document))
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, prog="make bench-engines")
    parser.add_argument(
        "--only", default="", help=f"parts with commas between: {', '.join(PARTS)}; without it, all"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a small run to test the program; its figures mean nothing"
    )
    parser.add_argument("--output", type=Path, default=Path("bench-results"), help="folder of the reports")
    parser.add_argument("--into", type=Path, help="a page whose marked tables are replaced by the new ones")
    return parser.parse_args(argv)


async def _measured(names: list[str], sizes: Sizes, progress: Progress) -> list[Table]:
    tables = []
    for name in names:
        tables += await PARTS[name](sizes, progress)
    if set(names) == set(PARTS):
        tables += estimates({table.id: table for table in tables})
    return tables


def _versions() -> dict[str, str]:
    version_text = subprocess.run(
        [shutil.which("redis-server") or "", "--version"], capture_output=True, text=True, check=True
    )
    return {
        "channelstream": __version__,
        "Redis": version_text.stdout.partition("v=")[2].split()[0],
        "Python": platform.python_version(),
        "uvloop": version("uvloop"),
    }


def _write(document: Document, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "engines.json").write_bytes(msgspec.json.format(msgspec.json.encode(document)) + b"\n")
    text = "\n".join([_head(document), *map(markdown, document.tables)])
    (folder / "engines.md").write_text(text)
    print(text, end="")


def filled(page: str, document: Document) -> str:
    """Return a page with its marked tables replaced: from `<!-- engines: ID -->` to the next empty line."""
    shown = {table.id: grid(table) for table in document.tables} | {"head": _head(document).rstrip()}

    def replaced(found: re.Match[str]) -> str:
        return f"{found[1]}\n{shown[found[2]]}\n" if found[2] in shown else found[0]

    return _MARKED.sub(replaced, page)


def _head(document: Document) -> str:
    made_on = document.machine
    versions = ", ".join(f"{name} {version}" for name, version in document.versions.items())
    return (
        f"{document.time}: {made_on.cpu}, {made_on.cores} core(s), {made_on.kernel}; {versions}."
        f" Medians of {document.sizes.rounds} round(s).\n"
    )


if __name__ == "__main__":
    sys.exit(main())
