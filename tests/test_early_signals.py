"""Signals that come while a process starts, and by default would end it."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.waiting import PATIENCE_S

BY_DEFAULT = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
"""Else the signal would be ignored where nohup(1) runs the tests."""
SERVER = """
import os, signal, sys
from channelstream.cli import main, serve
from channelstream.lifecycle import Server

load, started = serve.load, Server._started

def load_signalled(*args):
    for number in (signal.SIGHUP, signal.SIGUSR2):
        os.kill(os.getpid(), number)
    return load(*args)

def started_and_stopped(server):
    started(server)
    server.stop()

serve.load, Server._started = load_signalled, started_and_stopped
sys.exit(main(sys.argv[1:]))
"""
PARENT = """
import os, signal
from channelstream import early_signals
from channelstream.config import Settings
from channelstream.supervisor.supervisor import Supervisor

early_signals.hold()
for number in (signal.SIGHUP, signal.SIGUSR2):
    os.kill(os.getpid(), number)
Supervisor._signal_workers = lambda parent, number: print("workers get", number.name)
supervisor = Supervisor(Settings(workers=2, keys_file="keys.json"), [])
supervisor._catch_signals()
for key, _ in supervisor._selector.select():
    key.data()
print("goes on", signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""
"""The parent of workers; it has none."""
RESUMED = """
import os, signal
from channelstream import early_signals
from channelstream.config import Settings
from channelstream.supervisor.renewal import Kept
from channelstream.supervisor.supervisor import Supervisor
from channelstream.upgrade.messages import Report, kept_options

settings = Settings(workers=2)
report = Report("1", "2", 9, {}, 0.5, 0.6)
kept = Kept(
    **kept_options(settings),
    slots=[None, None], reserved=[], for_scrapers=[], directory=None, retiring=[], requester=None, report=report,
)
early_signals.hold()
os.kill(os.getpid(), signal.SIGHUP)
supervisor = Supervisor(settings, [])
supervisor.resume(kept)
supervisor._catch_signals()
print("goes on")
"""
"""A parent whose program before this one has read files."""


def ended(program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", BY_DEFAULT + program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_a_server_does_what_it_was_asked_as_it_started(tmp_path: Path) -> None:
    """It reads the files of its keys again, and does not upgrade."""
    keys = tmp_path / "keys.json"
    keys.touch(0o600)
    keys.write_text('{"keys": []}')
    server = ended(SERVER, "-p", "0", "--keys-file", str(keys))
    assert server.returncode == 0, server.stderr
    assert server.stderr.count("the files with keys and secrets are read") == 2
    assert "upgrading" not in server.stderr


def test_a_server_without_a_terminal_ends_though_it_has_just_started() -> None:
    """SIGHUP does so unless there are files to read."""
    assert ended(SERVER, "-p", "0").returncode == -1


@pytest.mark.parametrize(
    ("program", "said"), [(PARENT, "workers get SIGHUP\ngoes on set()\n"), (RESUMED, "goes on\n")]
)
def test_the_parent_of_workers_is_not_ended(program: str, said: str) -> None:
    """It refuses to upgrade; and a configuration without files, in an upgrade, has nothing to read."""
    parent = ended(program)
    assert (parent.returncode, parent.stdout) == (0, said), parent.stderr
