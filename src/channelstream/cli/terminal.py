"""What commands print besides their answers, and text of others that they print."""

import sys


def say(text: str) -> None:
    """Print a line about the work itself, to stderr."""
    print(f"channelstream: {text}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Escape what a terminal would execute, or not show."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
