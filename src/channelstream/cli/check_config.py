"""`channelstream check-config`: report all problems of a configuration at once."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from channelstream.config import loading, safety
from channelstream.config.flags import read_flags, settings_parser
from channelstream.config.keys_file import read_stored
from channelstream.config.settings import Settings

DESCRIPTION = "Check the configuration with which `channelstream` would serve: file, environment and flags."
USAGE = "channelstream check-config [-i FILE] [option ...]"
BAD_CONFIGURATION = 2


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print OK, or all problems. Warnings do not change the exit code.

    Raises:
        ConfigError: the file cannot be read.
    """
    parser = settings_parser("channelstream check-config", DESCRIPTION, usage=USAGE)
    reading = loading.read(read_flags(parser, argv), environ)
    problems = reading.problems or list(safety.problems(reading.settings()))
    for warning in (*reading.warnings, *([] if problems else _about_keys(reading.settings()))):
        print(f"warning: {warning}", file=sys.stderr)
    for problem in problems:
        print(f"problem: {problem}", file=sys.stderr)
    if problems:
        return BAD_CONFIGURATION
    print("OK")
    return 0


def _about_keys(settings: Settings) -> Iterable[str]:
    """Return warnings about keys that are weak, expired or unused."""
    if not settings.keys_file:
        return []
    from channelstream.cli.key_uses import warnings  # Loads an HTTP library: the running server is asked.

    return warnings(settings, read_stored(settings.keys_file), datetime.now(UTC))
