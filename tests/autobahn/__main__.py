"""`python -m tests.autobahn [--all] [--report DIR] WSTEST`: run the Autobahn suite against the server's WebSockets.

The suite ends with 0 whatever it finds, and skips what it cannot reach. So its report is read here: the run fails unless
each case that was asked for is in it, and has passed.
"""

import argparse
import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvloop
from tests.autobahn.echo import echoing

GROUPS = {1: 16, 2: 11, 3: 7, 4: 10, 5: 20, 6: 145, 7: 37, 9: 54, 10: 1}
"""The cases of each group."""
COMPRESSED = {12: 90, 13: 126}
"""Those of permessage-deflate, which take ten minutes: most of that is the suite's own time."""
PASSED = {"OK", "NON-STRICT", "INFORMATIONAL"}
"""A case is informational where RFC 6455 allows several behaviours, and not strict where a fault could be found earlier."""
SMALL_WINDOWS = ("13.3.", "13.5.")
"""Cases in which the client wants the server to use a window below 32 KiB, so it compresses nothing (`wire/deflate.py`)."""
PATIENCE_S = 3600.0
AGENT = "channelstream"


async def run_suite(wstest: str, groups: list[int], folder: Path) -> dict[str, dict[str, Any]]:
    """Run these groups of cases against a server in this process; return the report of each case by its number."""
    async with echoing() as url:
        plan = {
            "outdir": str(folder),
            "options": {"failByDrop": False},
            "servers": [{"agent": AGENT, "url": url}],
            "cases": [f"{group}.*" for group in groups],
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        spec = folder / "spec.json"
        spec.write_text(json.dumps(plan))
        suite = await asyncio.create_subprocess_exec(
            wstest, "-m", "fuzzingclient", "-s", spec, stdout=asyncio.subprocess.DEVNULL
        )
        await asyncio.wait_for(suite.wait(), PATIENCE_S)
    index = folder / "index.json"
    return dict(json.loads(index.read_text())[AGENT]) if index.exists() else {}


def allowed(number: str) -> set[str]:
    """Return the verdicts with which a case passes."""
    return PASSED | {"UNIMPLEMENTED"} if number.startswith(SMALL_WINDOWS) else PASSED


def faults(cases: dict[str, dict[str, Any]], expected: dict[int, int]) -> list[str]:
    """Return what is wrong with a report: cases that are missing, and cases that did not pass."""
    ran = Counter(int(number.split(".")[0]) for number in cases)
    missing = [
        f"group {group}: {ran[group]} of {count} cases ran"
        for group, count in expected.items()
        if ran[group] != count
    ]
    failed = [
        f"case {number}: {case['behavior']}, closed {case['behaviorClose']}"
        for number, case in cases.items()
        if not {case["behavior"], case["behaviorClose"]} <= allowed(number)
    ]
    return missing + failed


def main() -> int:
    """Run the suite, print what it found, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.autobahn", description=__doc__)
    parser.add_argument("wstest", metavar="WSTEST", help="the program of the suite")
    parser.add_argument("--all", action="store_true", help="with compression, which takes ten minutes")
    parser.add_argument("--report", type=Path, metavar="DIR", help="an empty folder for the suite's pages")
    arguments = parser.parse_args()
    expected = GROUPS | COMPRESSED if arguments.all else GROUPS
    with TemporaryDirectory() as scratch:
        folder = arguments.report or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            parser.error(f"{folder} is not empty: its report would be taken for that of this run")
        cases = uvloop.run(run_suite(arguments.wstest, list(expected), folder))
    found = faults(cases, expected)
    verdicts = Counter(case["behavior"] for case in cases.values())
    print(f"{len(cases)} cases:", ", ".join(f"{count} {name}" for name, count in sorted(verdicts.items())))
    print(*found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
