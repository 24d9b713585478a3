"""A real server process for tests that speak to it over real sockets."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import httpx
import pytest
from itsdangerous import TimestampSigner

SECRET = "a-secret-of-the-tests"
ADMIN_SECRET = "an-admin-secret-of-the-tests"
RUNNING = re.compile(r"running on (?:https?://[^ ]*?:(\d+)|unix socket) ")


@dataclass
class RunningServer:
    """A server in a process of its own.

    Attributes:
        url: where it listens, without a slash at the end.
        port: 0 means that it listens on a unix socket.
        lines: what it has logged until it was ready.
    """

    process: "subprocess.Popen[str]"
    port: int
    lines: list[str]
    secret: str = SECRET
    admin_secret: str = ADMIN_SECRET

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def sign(self, path: str) -> dict[str, str]:
        """Headers of a signed request."""
        return {"x-channelstream-secret": TimestampSigner(self.secret).sign(path).decode()}

    def request(self, method: str, path: str, payload: Any = None, **options: Any) -> httpx.Response:
        """Send a signed request; `headers` in options come on top of the signature."""
        headers = self.sign(path.partition("?")[0]) | options.pop("headers", {})
        return httpx.request(method, self.url + path, json=payload, headers=headers, **options)

    def post(self, path: str, payload: Any = None, **options: Any) -> Any:
        """Send a signed POST that must succeed and return its answer."""
        response = self.request("POST", path, payload, **options)
        assert response.status_code == 200, response.text
        return response.json()

    def connect(self, user: str, *channels: str, **more: Any) -> str:
        """Register a connection and return its id."""
        conn_id: str = self.post("/connect", {"username": user, "channels": list(channels), **more})[
            "conn_id"
        ]
        return conn_id

    def stop(self) -> tuple[int, str]:
        """End the process as Ctrl-C does; return its exit code and the rest of its log."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        rest, _ = self.process.communicate(timeout=20)
        return self.process.returncode, rest


StartServer = Callable[..., RunningServer]


def launch(*flags: str, **environ: str) -> RunningServer:
    """Start a server on a free port and wait until it listens."""
    command = [sys.executable, "-m", "channelstream", "-p", "0", "-s", SECRET, "-a", ADMIN_SECRET, *flags]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | environ
    )
    assert process.stdout is not None
    port, lines = _wait_until_running(process.stdout)
    return RunningServer(process, port, lines)


def _wait_until_running(log: IO[str]) -> tuple[int, list[str]]:
    lines = []
    for line in log:
        lines.append(line)
        if found := RUNNING.search(line):
            return int(found[1] or 0), lines
    raise AssertionError("the server did not start:\n" + "".join(lines))


@pytest.fixture(scope="session")
def server() -> Iterator[RunningServer]:
    """One server for all tests that can share it."""
    running = launch()
    yield running
    running.stop()


@pytest.fixture
def start_server() -> Iterator[StartServer]:
    """Start servers of one's own, with flags; they end with the test."""
    started: list[RunningServer] = []

    def start(*flags: str, **environ: str) -> RunningServer:
        started.append(launch(*flags, **environ))
        return started[-1]

    yield start
    for running in started:
        running.stop()
