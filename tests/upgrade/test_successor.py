"""The new process, as the system shows it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
from tests.processes import children
from tests.redis_server import RedisServer

COMMAND = Path(sys.executable).with_name("channelstream")


def name_of(pid: int) -> str:
    """Return its name without the line feed that follows it: any other is a part of the name."""
    return Path(f"/proc/{pid}/comm").read_text("utf-8").removesuffix("\n")


def line_with(text: str, log: IO[str]) -> str:
    return next(line for line in log if text in line)


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_keep_the_name_of_the_command(workers: int, redis: RedisServer) -> None:
    """What finds the server by it, such as a monitor, finds it after an upgrade, its workers and their parent as well."""
    flags = ("-p", "0", "--engine", redis.address, "--workers", str(workers))
    first = subprocess.Popen([COMMAND, *flags], stderr=subprocess.PIPE, text=True)
    assert first.stderr is not None
    serving = first.pid
    try:
        line_with("running on", first.stderr)
        assert name_of(first.pid) == "channelstream"
        os.kill(first.pid, signal.SIGUSR2)
        done = line_with("upgraded: " if workers > 1 else "upgraded from", first.stderr)
        found = re.search(r"process (\d+) serves", done)
        assert found is not None, done
        serving = int(found[1])
        assert {name_of(pid) for pid in (serving, *children(serving))} == {"channelstream"}
    finally:
        os.kill(serving, signal.SIGTERM)
        first.stderr.read()
        first.wait()
        first.stderr.close()
