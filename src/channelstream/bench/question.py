"""How a program is run that answers one question: its options, and the end of a run that fails."""

import argparse
from collections.abc import Callable, Coroutine

import uvloop

from channelstream.bench.load import BenchFailed
from channelstream.bench.processes import use_all_descriptors


def options_of(module: str, description: str | None) -> argparse.ArgumentParser:
    """Return the options of a module of this package, so far those of the server that it starts."""
    options = argparse.ArgumentParser(description=description, prog=f"python -m channelstream.bench.{module}")
    options.add_argument(
        "--flag",
        action="append",
        default=[],
        help="an option of the server: --flag=--name=value, for each one",
    )
    return options


def positive(text: str) -> int:
    """Return the number of an option of which there must be one at least.

    Raises:
        ArgumentTypeError: it is another text.
    """
    if text.isdecimal() and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")


def answer(
    options: argparse.ArgumentParser, measure: Callable[[argparse.Namespace], Coroutine[None, None, None]]
) -> None:
    """Measure and print, as the arguments of the process say; a run that fails ends it with its cause."""
    arguments = options.parse_args()
    use_all_descriptors()
    try:
        uvloop.run(measure(arguments))
    except BenchFailed as error:
        options.exit(1, f"{options.prog}: {error}\n")
