"""`channelstream bench`: measure a running server, or a server that it starts."""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from urllib.parse import urlsplit

import msgspec
import uvloop

from channelstream.apps.keys import DEFAULT
from channelstream.bench.chart import chart
from channelstream.bench.conduct import conduct
from channelstream.bench.load import BenchFailed, Load
from channelstream.bench.measure import Target
from channelstream.bench.processes import check_pid, listens
from channelstream.bench.progress import Progress
from channelstream.bench.results import Report
from channelstream.bench.scenarios import QUICK, SCENARIOS, Scenario, Step
from channelstream.bench.text import report_text
from channelstream.bench.wire import Wire
from channelstream.cli.remote import checked_url
from channelstream.cli.settings import settings_of
from channelstream.cli.signing_key import SIGNING_OPTIONS, add_key_flags, signing_key
from channelstream.cli.terminal import say
from channelstream.cli.termination import as_ctrl_c
from channelstream.config.flags import OneLineParser, add_file_flag, add_flags
from channelstream.config.settings import BY_NAME
from channelstream.errors import ConfigError, RequestFailed

DESCRIPTION = """\
Connect subscribers to a server, publish messages, and print CPU per delivery, latency, lost messages and order. The exit
code is 1 if messages were lost or out of order. Without URL a server is started on a free port, with default options.
The webhooks of a server at URL report the users and channels bench-..., which it keeps for gc_users_after_s and
gc_channels_after_s, 1 and 3 days by default."""
QUICK_NAME = "quick"
NOT_RIGHT = 1

_LEAST_DURATION_S = 0.1
"""In less time nothing is measured."""
_INTEGERS = {
    "clients": ("--clients", "N", "Subscribers", 0, 1_000_000),
    "channels": ("--channels", "N", "Channels of each client", 1, 1000),
    "messages": ("--messages", "N", "Messages to publish; 0 means none", 0, 100_000_000),
    "publishers": ("--publishers", "N", "Concurrent calls", 1, 1000),
    "payload_bytes": ("--payload-bytes", "BYTES", "Length of a message's text", 0, 1 << 20),
    "items": ("--items", "N", "Messages in one call", 1, 10_000),
    "workers": ("--workers", "N", "Processes that run the clients", 1, 64),
}
_NUMBERS = {
    "duration_s": ("--duration", "S", "Publish for so many seconds; 0 means --messages", 0, 86_400),
    "rate_per_s": ("--rate", "N", "Messages a second; 0 means as fast as possible", 0, 1_000_000),
    "idle_s": ("--idle", "S", "Seconds with idle clients before publishing, to probe the server", 0, 86_400),
}
"""Parameters of a load: flag, placeholder, help text, least and greatest value."""


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Measure, print and write the report.

    Raises:
        ConfigError: the arguments or settings are wrong.
        RequestFailed: the server cannot be measured.
    """
    parser = _parser()
    arguments = parser.parse_strictly(argv)
    if "list" in arguments:
        print(scenarios_text())
        return 0
    scenarios = _scenarios(parser, arguments)
    _refuse_outages(parser, arguments, scenarios)
    for scenario in scenarios:
        for path, _ in _files(arguments, scenario):
            _prepare(path)
    try:
        target = _target(parser, arguments, environ)
        with as_ctrl_c():  # Else the programs of a run would outlive it.
            reports = [_conducted(scenario, target, arguments) for scenario in scenarios]
    except BenchFailed as error:
        raise RequestFailed(str(error)) from error
    return 0 if all(report.is_right for report in reports) else NOT_RIGHT


def _parser() -> OneLineParser:
    parser = OneLineParser("channelstream bench", DESCRIPTION, _EPILOG)
    parser.add_argument("url", metavar="URL", nargs="?", help="The server to measure [start one].")
    parser.add_argument(
        "--scenario", metavar="NAME[,NAME]", help=f"Predefined loads; {QUICK_NAME} means a short set [none]."
    )
    parser.add_argument("--list", action="store_true", help="Print the scenarios.")
    parser.add_argument("--pid", metavar="PID", help="The server's process, to measure CPU and memory.")
    parser.add_argument(
        "--no-reference",
        action="store_true",
        help="Do not measure the reference: a minimal server measured in the same run.",
    )
    load = parser.add_argument_group("Load (overrides that of a scenario)")
    load.add_argument("--transport", choices=("ws", "sse", "poll"), help="How clients listen [ws].")
    for name, (flag, metavar, sentence, *_) in (_INTEGERS | _NUMBERS).items():
        load.add_argument(flag, dest=name, metavar=metavar, help=f"{sentence} [{getattr(Load(), name):g}].")
    load.add_argument(
        "--signing",
        choices=("old", "signed"),
        help="Sign the path, or each whole call [old; with --key signed].",
    )
    load.add_argument("--deflate", action="store_true", help="Clients require permessage-deflate.")
    results = parser.add_argument_group("Results")
    results.add_argument("--json", metavar="FILE", help="Write the report of one scenario as JSON.")
    results.add_argument("--svg", metavar="FILE", help="Write its chart as SVG.")
    results.add_argument(
        "--output", metavar="DIR", help="Write NAME.json and NAME.svg of every scenario to DIR."
    )
    group = parser.add_argument_group("Settings")
    add_file_flag(group.add_argument)
    add_key_flags(group.add_argument)
    add_flags(group.add_argument, [BY_NAME[name] for name in (*SIGNING_OPTIONS, "ssl_certfile")])
    return parser


_EPILOG = """\
examples:
  channelstream bench --scenario fanout-1000
  channelstream bench http://127.0.0.1:8000 -s "$SECRET" --pid "$PID"
  channelstream bench --clients 500 --transport sse --rate 100 --duration 30 --svg sse.svg
"""


def scenarios_text() -> str:
    """Return the scenarios as text: name and question."""
    lines = [f"  {scenario.name:16}{scenario.question}" for scenario in SCENARIOS.values()]
    return "\n".join([*lines, f"  {QUICK_NAME:16}{', '.join(QUICK)}"])


# -- arguments


def _scenarios(parser: OneLineParser, arguments: Namespace) -> list[Scenario]:
    changes = _changes(parser, arguments)
    if "scenario" in arguments:
        scenarios = [each.changed(changes) for each in _named(parser, arguments)]
    else:
        scenarios = [Scenario("custom", "", (Step(changes.get("transport", "ws"), Load(**changes)),))]
    for load in (step.load for each in scenarios for step in each.steps if step.load.transport != "ws"):
        if load.deflate:
            parser.error("--deflate is for --transport ws: only WebSockets are compressed")
        if load.pusher:
            parser.error("--transport: clients of Pusher have WebSockets only")
    return scenarios


def _named(parser: OneLineParser, arguments: Namespace) -> list[Scenario]:
    names = [
        name for each in arguments.scenario.split(",") for name in (QUICK if each == QUICK_NAME else (each,))
    ]
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        parser.error(f"--scenario: there is no {unknown[0]!r}; --list prints them")
    if len(names) > 1 and ("json" in arguments or "svg" in arguments):
        parser.error("--json and --svg are for one scenario; --output DIR is for several")
    return [SCENARIOS[name] for name in names]


def _refuse_outages(parser: OneLineParser, arguments: Namespace, scenarios: Sequence[Scenario]) -> None:
    """Refuse a URL for scenarios that end servers: a running one is left alone."""
    outages = (scenario.name for scenario in scenarios for step in scenario.steps if step.outage is not None)
    if _has_url(arguments) and (name := next(outages, None)):
        parser.error(f"--scenario {name} starts and ends servers of its own: leave out URL")


def _has_url(arguments: Namespace) -> bool:
    return getattr(arguments, "url", None) is not None


def _changes(parser: OneLineParser, arguments: Namespace) -> dict[str, Any]:
    """Return the parameters that the arguments set."""
    given = vars(arguments)
    changes: dict[str, Any] = {
        name: given[name] for name in ("transport", "deflate", "signing") if name in given
    }
    for table, kind in ((_INTEGERS, int), (_NUMBERS, float)):
        for name, (flag, _, _, least, greatest) in table.items():
            if name in given:
                changes[name] = _number(parser, flag, given[name], kind, least, greatest)
    if "key" in given and changes.setdefault("signing", "signed") == "old":
        parser.error("--signing old: an old signature names no key; leave out --key")
    if duration_s := changes.get("duration_s"):
        if duration_s < _LEAST_DURATION_S:
            parser.error(f"--duration: {given['duration_s']} is neither 0 nor at least {_LEAST_DURATION_S}")
        changes.setdefault("messages", 0)
    return changes


def _number(
    parser: OneLineParser, flag: str, text: str, kind: type[int] | type[float], least: float, greatest: float
) -> float:
    try:
        value = kind(text)
    except ValueError:
        parser.error(f"{flag}: {text!r} is not a number")
    if not least <= value <= greatest:
        parser.error(f"{flag}: {text} is not between {least:,} and {greatest:,}")
    return value


_OF_URL = {
    "pid": "--pid is the process of the server at URL",
    "key": "--key is that of the server at URL",
    "app": "--app is an application of the server at URL",
}
"""Flags that mean nothing for a server which the bench starts, and what is said about each."""


def _target(parser: OneLineParser, arguments: Namespace, environ: Mapping[str, str]) -> Target | None:
    """Return the running server to measure; None means that a server has to be started."""
    if not _has_url(arguments):
        if said := next((said for name, said in _OF_URL.items() if name in arguments), None):
            parser.error(said)
        return None
    settings = settings_of(arguments, environ)
    try:
        url = urlsplit(checked_url(arguments.url))
    except ConfigError as error:
        raise ConfigError(str(error).replace("--url", "URL")) from error
    tls = url.scheme == "https"
    key = signing_key(settings, arguments, environ)
    app_prefix = "" if key.app_id == DEFAULT else f"/app/{key.app_id}"
    wire = Wire(
        host=url.hostname or "",
        port=url.port or (443 if tls else 80),
        tls=tls,
        certfile=settings.ssl_certfile,
        prefix=url.path.rstrip("/") + app_prefix,
        secret=key.secret,
        key_id=key.id,
    )
    return Target("channelstream", wire, _pid(parser, arguments, wire.port))


def _pid(parser: OneLineParser, arguments: Namespace, port: int) -> int | None:
    """Return the process of the server at a port; a proxy may listen there in its place."""
    if "pid" not in arguments:
        say("CPU and memory are not measured: pass --pid PID of the server")
        return None
    pid = int(_number(parser, "--pid", arguments.pid, int, 1, 1 << 22))
    check_pid(pid)
    if not listens(pid, port):
        say(f"--pid: process {pid} does not listen at port {port}: is it the server, behind a proxy?")
    return pid


# -- runs and results


def _conducted(scenario: Scenario, target: Target | None, arguments: Namespace) -> Report:
    progress = Progress(sys.stderr)
    # The reference makes CPU figures comparable. Without the server's CPU it is of no use.
    with_reference = "no_reference" not in arguments and (target is None or target.pid is not None)
    if with_reference and (why := scenario.missing_reference()):
        say(why)
        with_reference = False
    try:
        report = uvloop.run(conduct(scenario, target, with_reference, progress))
    finally:
        progress.clear()
    try:
        for path, text_of in _files(arguments, scenario):
            with _writing(path):
                path.write_text(text_of(report), encoding="utf-8")
    finally:
        print(report_text(report), end="\n\n", flush=True)
    return report


def _files(arguments: Namespace, scenario: Scenario) -> Iterator[tuple[Path, Callable[[Report], str]]]:
    """Yield the files to write of a scenario's report, each with what returns its text."""
    given = vars(arguments)
    if "json" in given:
        yield Path(given["json"]), _document
    if "svg" in given:
        yield Path(given["svg"]), chart
    if "output" in given:
        folder = Path(given["output"])
        yield folder / f"{scenario.name}.json", _document
        yield folder / f"{scenario.name}.svg", chart


def _document(report: Report) -> str:
    return msgspec.json.format(msgspec.json.encode(report)).decode() + "\n"


def _prepare(path: Path) -> None:
    """Make the folder of a file, and find out before a long run whether the file can be written."""
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            TemporaryFile(dir=path.parent).close()
        elif path.is_file() or path.is_dir():
            path.open("ab").close()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{str(path)!r} cannot be written: {error.strerror}") from error
