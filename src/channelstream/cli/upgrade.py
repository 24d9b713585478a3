"""`channelstream upgrade`: replace a running server by the installed version; its connections stay open."""

import asyncio
import signal
import sys
from collections.abc import Mapping, Sequence

from channelstream.cli import FAILED
from channelstream.cli.settings import ADDRESS, settings_of
from channelstream.cli.terminal import printable, say
from channelstream.config.flags import OneLineParser, add_file_flag, add_flags
from channelstream.config.listening import address_of
from channelstream.config.settings import BY_NAME
from channelstream.errors import CannotHandOver, ConfigError, PeerEnded
from channelstream.upgrade.control import ask_to_upgrade, patience_s
from channelstream.upgrade.messages import Report

DESCRIPTION = """Replace the server that runs on this machine by the installed version. Its connections stay open.

Run it as the server's user or as root, with the file and the options of the server: its address is what
it is found by. If the new process does not start, the server goes on as before."""

OF_SYSTEMD = "MAINPID"
"""What systemd sets for the commands of a unit that is running, such as `ExecReload` (systemd.exec(5))."""


def parser() -> OneLineParser:
    made = OneLineParser("channelstream upgrade", DESCRIPTION)
    add_file_flag(made.add_argument)
    add_flags(made.add_argument, [BY_NAME[name] for name in ADDRESS], ADDRESS)
    return made


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Ask the server to upgrade, and print the result.

    Raises:
        ConfigError: the arguments or the settings are wrong.
    """
    arguments = parser().parse_strictly(argv)
    if OF_SYSTEMD in environ:
        # Which it sends when it stops the service. Any other end of a reload would then be a failure of the service.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        settings = settings_of(arguments, environ)
    except ConfigError as error:
        raise ConfigError(
            f"{error}; no server was asked to upgrade, and one that runs goes on as before"
        ) from error
    where = address_of(settings)
    try:
        report = asyncio.run(ask_to_upgrade(settings))
    except PeerEnded as error:
        return _fail(f"the server at {where} has ended, or stops; its log has more: {error}")
    except CannotHandOver as error:
        return _fail(f"the server at {where} goes on as before: {error}")
    except TimeoutError:
        return _fail(f"the server at {where} has not answered within {patience_s(settings):g} s: see its log")
    except OSError:
        return _fail(
            f"no server runs at {where} that you may upgrade. Name the address with which it was started"
            " (-i FILE, --host, --port, --unix-socket), or run this as its user or as root."
        )
    for line in _lines(report):
        print(printable(line))
    return 0


def _lines(report: Report) -> tuple[str, ...]:
    return (
        f"upgraded from {report.old_version} to {report.version}: process {report.pid} serves",
        f"handed over: {report.handed_over}",
        report.waits,
        *filter(None, [report.not_changed]),
    )


def _fail(text: str) -> int:
    say(printable(text))
    return FAILED
