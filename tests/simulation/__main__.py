"""`python -m tests.simulation [--tokens [--reading | --sqlite] | --passers-by] [SEED ...] [--count N]`: play seeds and
shrink failures.
"""

import argparse
import random
import sys
import time

from tests.simulation.passers_by import PASSERS_BY
from tests.simulation.report import CONNECTED, run_seed
from tests.simulation.token_disk import DISK_TOKENS
from tests.simulation.token_simulation import READING, TOKENS


def main() -> int:
    """Play the seeds asked for, or random ones, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument(
        "seeds", type=int, nargs="*", help="seeds to replay; without any, random ones are played"
    )
    parser.add_argument("--count", type=int, default=100, help="how many random seeds")
    parser.add_argument("--tokens", action="store_true", help="clients with tokens that send commands")
    parser.add_argument(
        "--reading", action="store_true", help="these where they read much that they have missed"
    )
    parser.add_argument("--sqlite", action="store_true", help="these on the SQLite engine")
    parser.add_argument("--passers-by", action="store_true", help="clients to whom nobody comes back")
    arguments = parser.parse_args()
    tokens = READING if arguments.reading else DISK_TOKENS if arguments.sqlite else TOKENS
    play = tokens if arguments.tokens else PASSERS_BY if arguments.passers_by else CONNECTED
    seeds = arguments.seeds or [random.SystemRandom().randrange(10**9) for _ in range(arguments.count)]
    begun_s, events = time.monotonic(), 0
    for seed in seeds:
        try:
            events += run_seed(seed, play)
        except AssertionError as failure:
            print(failure, file=sys.stderr)
            return 1
    print(f"{len(seeds)} seeds, {events} events received, {time.monotonic() - begun_s:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
