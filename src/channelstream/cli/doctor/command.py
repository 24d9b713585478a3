"""The command: its arguments, and how the findings are printed."""

import asyncio
import json
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from channelstream.cli import FAILED
from channelstream.cli.doctor.finding import (
    Finding,
    Level,
    Result,
    Subject,
    examine,
    fault,
    has_fault,
    warning,
)
from channelstream.cli.doctor.tables import OF_CONFIGURATION, OF_SERVICE
from channelstream.cli.remote import Server, checked_url, url_of
from channelstream.cli.signing_key import SigningKey, signs_old
from channelstream.config import Settings, loading
from channelstream.config.flags import OneLineParser, read_arguments, settings_parser
from channelstream.config.secret_file import secrets_of
from channelstream.config.sources import FILE_VARIABLE
from channelstream.config.values import Number
from channelstream.errors import ConfigError

DESCRIPTION = """\
Examine a configuration, and the service that runs with it: what is wrong, and what to do. Name the file and the options
with which the server is started, and the address that browsers use with --url."""
USAGE = "channelstream doctor [-i FILE] [option ...] [--url URL] [--node URL ...]"
EPILOG = """\
examples:
  channelstream doctor -i /etc/channelstream.ini --url https://push.example.com
  channelstream doctor -i /etc/channelstream.ini --config-only

The exit code is 1 if there is a fault; warnings do not change it.
"""
_WIDTH = max(map(len, Level))


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the checks and print the findings.

    Raises:
        ConfigError: the command line is wrong, or the file cannot be read.
    """
    flags, arguments = read_arguments(_parser(), argv)
    reading = loading.read(flags, environ)
    results = [Result("configuration", finding) for finding in _of_reading(reading)]
    if not reading.problems:
        ini = flags.file or environ.get(FILE_VARIABLE, "")
        subject = subject_of(reading.settings(), ini, arguments)
        checks = OF_CONFIGURATION if arguments.config_only else OF_CONFIGURATION + OF_SERVICE
        results += asyncio.run(examine(subject, checks))
    print(_as_json(results) if arguments.json else "\n".join(_lines(results)))
    return FAILED if has_fault(results) else 0


def _parser() -> OneLineParser:
    parser = settings_parser("channelstream doctor", DESCRIPTION, EPILOG, USAGE)
    group = parser.add_argument_group("Examination")
    group.add_argument(
        "--url",
        default="",
        help="The public address, such as https://push.example.com: streams are opened there.",
    )
    group.add_argument(
        "--node",
        metavar="URL",
        action="append",
        default=[],
        help="The address of a node, not through the proxy; may be repeated [that of the options].",
    )
    group.add_argument(
        "--trust", metavar="FILE", default="", help="A certificate to trust at these addresses."
    )
    group.add_argument(
        "--wait-s",
        metavar="N",
        type=Number(0.1, 30).parse,
        default=1.0,
        help="How long the first bytes of a stream may take [1 seconds].",
    )
    group.add_argument("--config-only", action="store_true", default=False, help="Examine no running server.")
    group.add_argument("--json", action="store_true", default=False, help="Print one JSON object.")
    return parser


def subject_of(settings: Settings, ini: str, arguments: Namespace) -> Subject:
    """Return what is examined.

    Raises:
        ConfigError: an address is wrong.
    """
    trusted = arguments.trust or settings.ssl_certfile
    key = SigningKey("", _secret(settings), is_old=signs_old(settings))
    here = Server(url_of(settings), key, settings.unix_socket, trusted)
    named = [Server(checked_url(url, "--node"), key, "", trusted) for url in arguments.node]
    public = Server(checked_url(arguments.url), key, "", arguments.trust) if arguments.url else None
    return Subject(settings, ini, named or [here], public, first_bytes_s=arguments.wait_s)


def _secret(settings: Settings) -> str:
    """Return what calls are signed with; empty if its file cannot be used, which the checks report."""
    try:
        return secrets_of(settings)[0]
    except ConfigError:
        return ""


def _of_reading(reading: loading.Reading) -> Iterator[Finding]:
    yield from (
        fault(problem, "correct it: the server does not start with it") for problem in reading.problems
    )
    yield from (warning(text, "correct or remove it") for text in reading.warnings)


def _lines(results: Iterable[Result]) -> Iterator[str]:
    counts: Counter[Level] = Counter()
    for result in results:
        finding = result.finding
        counts[finding.level] += 1
        yield f"{finding.level:<{_WIDTH}}  {result.check}: {finding.text}"
        if finding.advice:
            yield f"{'':<{_WIDTH}}  -> {finding.advice}"
    yield ", ".join(f"{level}: {counts[level]}" for level in Level)


def _as_json(results: Sequence[Result]) -> str:
    rows = [
        {
            "check": each.check,
            "level": each.finding.level,
            "text": each.finding.text,
            "advice": each.finding.advice,
        }
        for each in results
    ]
    counts = Counter(str(row["level"]) for row in rows)
    return json.dumps({**{level: counts[level] for level in Level}, "findings": rows}, indent=2)
