"""`python -m tests.e2e.faults [SCENARIO ...]`: play scenarios, and print what was measured."""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.e2e.faults.figures import Figures
from tests.e2e.faults.play import OUTAGE_S, SEED, play
from tests.e2e.faults.scenarios import SCENARIOS


def main() -> int:
    """Play the scenarios asked for, or all, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.faults", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--outage-s", type=float, default=OUTAGE_S, help="how long outages last")
    parser.add_argument("--seed", type=int, default=SEED, help="of all that is drawn")
    arguments = parser.parse_args()
    if unknown := set(arguments.scenarios) - SCENARIOS.keys():
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    print(Figures.head(), flush=True)
    for name in arguments.scenarios or SCENARIOS:
        with TemporaryDirectory() as directory:
            outcome = play(name, Path(directory), arguments.outage_s, True, arguments.seed)
        print(outcome.figures.row(name), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
