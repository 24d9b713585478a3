"""`channelstream trace`: show live why events are not delivered."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from channelstream.cli.remote import Server, add_server_flags, server_of
from channelstream.cli.terminal import printable, say
from channelstream.cli.termination import as_ctrl_c
from channelstream.config.flags import OneLineParser
from channelstream.errors import StdoutFailed

DESCRIPTION = """\
Trace a user, a channel or a connection: print who receives each event, and why the others do not.
Ctrl-C, or SIGTERM, stops the trace."""
EPILOG = """\
examples:
  channelstream trace --user alice
  channelstream trace --channel news --minutes 30
"""
PATH = "/admin/trace.json"
EVERY_S = 0.5
DELIVERED = "delivered"


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Start a trace, print its notes until it ends, and stop it.

    Raises:
        ConfigError: the arguments or settings are wrong.
        RequestFailed: the server refused it or cannot be reached.
    """
    arguments = _parser().parse_strictly(argv)
    kind = next(kind for kind in ("user", "channel", "conn_id") if getattr(arguments, kind) is not None)
    subject = {kind: getattr(arguments, kind)}
    server = server_of(arguments, environ)
    asked = {"payload": "true"} if arguments.payload else {}
    after = server.post(PATH, {**subject, **asked, "minutes": arguments.minutes}, dict, "end")["end"]
    with as_ctrl_c():
        try:
            say(f"tracing {kind} {subject[kind]}")
            _follow(server, subject, after, arguments.delivered)
        except (KeyboardInterrupt, StdoutFailed) as ended:
            server.post(PATH, {**subject, "minutes": "0"}, dict)
            if isinstance(ended, StdoutFailed):
                raise
    return 0


def _parser() -> OneLineParser:
    parser = OneLineParser("channelstream trace", DESCRIPTION, EPILOG)
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument("--user", metavar="USER", default=None, help="Trace what concerns a user.")
    subject.add_argument("--channel", metavar="CHANNEL", default=None, help="Trace a channel.")
    subject.add_argument("--conn-id", metavar="ID", default=None, help="Trace one connection.")
    parser.add_argument("--minutes", default="5", metavar="N", help="How long, at most 60 [5].")
    parser.add_argument(
        "--delivered", action="store_true", default=False, help="Name also who received an event."
    )
    parser.add_argument(
        "--payload",
        action="store_true",
        default=False,
        help="Show the begin of each payload; the server records that you asked for it.",
    )
    add_server_flags(parser)
    return parser


def _follow(server: Server, subject: Mapping[str, str], after: str, names_delivered: bool) -> None:
    """Print new notes until the trace ends."""
    while True:
        document = server.get(PATH, {**subject, "after": after}, dict, "notes", "seconds_left", "next")
        after = document["next"]
        for note in document["notes"]:
            print(*lines(note, names_delivered), sep="\n", flush=True)
        if not document["notes"]:
            if not document["seconds_left"]:
                return
            time.sleep(EVERY_S)


def lines(note: Mapping[str, Any], names_delivered: bool = False) -> Iterator[str]:
    """Yield a note as text: the event, then one line for each connection that it did not reach, and the others counted."""
    fact = note["fact"]
    at = datetime.fromtimestamp(note["at_s"], UTC).strftime("%H:%M:%S")
    known = [f"{key}={fact[key]!r}" for key in _KEYS if fact[key] is not None]
    nodes = [f"at {node}" for node in note["nodes"] if node]
    yield " ".join([at, fact["what"], *known, *([fact["text"]] if fact["text"] else []), *nodes])
    if fact.get("payload") is not None:
        yield f"    payload: {printable(fact['payload'])}"
    listed = [each for each in fact["outcomes"] if names_delivered or each["fate"] != DELIVERED]
    for each in listed:
        recipient = " ".join(repr(each[key]) for key in ("user", "conn_id") if each[key])
        wait = f" ({each['wait_s']} s left)" if each["wait_s"] is not None else ""
        yield f"    {each['fate']}: {recipient}{wait}" if recipient else f"    {each['fate']}"
    named = Counter(each["fate"] for each in listed)
    for fate, count in fact["counts"].items():
        if count > named[fate]:
            yield f"    {fate}: {count - named[fate]}{' more' if named[fate] else ''}"


_KEYS = ("type", "channel", "by", "uuid", "size", "user", "conn_id")
