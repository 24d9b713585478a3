"""`channelstream check-config`: report all problems of a configuration at once.

A problem is what the server refuses to start with; a fault is what `channelstream doctor` reports of the same options.
"""

import asyncio
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from channelstream.cli import BAD_CONFIGURATION, FAILED
from channelstream.config import interpolated, loading, safety
from channelstream.config.flags import read_flags, settings_parser
from channelstream.config.keys_file import read_stored
from channelstream.config.settings import Settings
from channelstream.config.sources import FILE_VARIABLE

DESCRIPTION = "Check the configuration with which `channelstream` would serve: file, environment and flags."
USAGE = "channelstream check-config [-i FILE] [option ...]"


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print OK, or all problems, or else all faults. Warnings do not change the exit code.

    Raises:
        ConfigError: the file cannot be read.
    """
    parser = settings_parser("channelstream check-config", DESCRIPTION, usage=USAGE)
    flags = read_flags(parser, argv)
    reading = loading.read(flags, environ)
    problems = reading.problems or list(safety.problems(reading.settings()))
    _say("warning", reading.warnings)
    if problems:
        _say("problem", problems)
        return BAD_CONFIGURATION
    ini = flags.file or environ.get(FILE_VARIABLE, "")
    _say("warning", _about_old_file(reading.settings(), ini))
    _say("warning", _about_keys(reading.settings()))
    if faults := _faults(reading.settings(), ini):
        _say("fault", faults)
        return FAILED
    print("OK")
    return 0


def _say(kind: str, texts: Iterable[str]) -> None:
    for text in texts:
        print(f"{kind}: {text}", file=sys.stderr)


def _faults(settings: Settings, ini: str) -> list[str]:
    """Return a sentence about each fault of the options, and what to do."""
    # Both load an HTTP library.
    from channelstream.cli.doctor.finding import Level, Subject, examine
    from channelstream.cli.doctor.option_checks import OF_OPTIONS

    results = asyncio.run(examine(Subject(settings, ini), OF_OPTIONS))
    findings = [result.finding for result in results if result.finding.level is Level.FAULT]
    return [f"{each.text}; {each.advice}" for each in findings]


def _about_old_file(settings: Settings, ini: str) -> Iterable[str]:
    """Return warnings about secrets that 0.7 read otherwise."""
    found = interpolated.warnings(settings, ini) if ini else ()
    return [f"{text}; {interpolated.ADVICE}" for text in found]


def _about_keys(settings: Settings) -> Iterable[str]:
    """Return warnings about keys that are weak, expired or unused."""
    if not settings.keys_file:
        return []
    from channelstream.cli.key_uses import warnings  # Loads an HTTP library: the running server is asked.

    return warnings(settings, read_stored(settings.keys_file), datetime.now(UTC))
