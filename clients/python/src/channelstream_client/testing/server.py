"""A real channelstream server in a process of its own, on a free port."""

import importlib.util
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from channelstream_client.client import Channelstream
from channelstream_client.testing.line import Line
from channelstream_client.testing.listener import Listener

_RUNNING = re.compile(r"running on https?://\S*?:(\d+)")
"""What the server logs when it takes connections."""
STOP_TIMEOUT_S = 10.0
"""How long a server may take to end before it is killed; its own drain takes less."""
KEPT_LINES = 1000
"""How many lines of the server's log are kept, the last ones."""


class NotInstalled(Exception):
    """There is no channelstream server in this environment."""


def command() -> Sequence[str]:
    """How to start the server: the one beside this Python, or else the one on the PATH.

    Raises:
        NotInstalled: there is none.
    """
    if importlib.util.find_spec("channelstream"):
        return [sys.executable, "-m", "channelstream"]
    beside = shutil.which("channelstream", path=str(Path(sys.executable).parent))
    if found := beside or shutil.which("channelstream"):
        return [found]
    raise NotInstalled("the channelstream server is not installed; `pip install channelstream` brings it")


class TestServer:
    """A server for tests, with everything in memory and a secret of its own.

    Attributes:
        secret: what applications sign with.
        client: a client that does.
        log: the last lines it logged.
    """

    __test__ = False  # Not a class of tests, whatever pytest thinks of its name.

    def __init__(self, flags: Iterable[str] = ()) -> None:
        """Start it, and return when it takes connections.

        Args:
            flags: of the command line, such as `--detach-grace-s 1`.

        Raises:
            NotInstalled: there is no server to start.
            RuntimeError: it ended at once; the text has its log.
        """
        self.secret = secrets.token_hex(16)
        self.log: list[str] = []
        self._flags = list(flags)
        self._listeners: list[Listener] = []
        self._lines: list[Line] = []
        self._process, self.port = self._start(0)
        self.client = Channelstream(self.url, self.secret)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def listen(self, user: str, channels: Iterable[str] = (), **connect: Any) -> Listener:
        """Register a connection and hear it; it is listening when this returns.

        Args:
            connect: further arguments of `Channelstream.connect`.
        """
        connection = self.client.connect(user, channels, **connect)
        return self.follow(connection.conn_id, user)

    def follow(self, conn_id: str, user: str = "") -> Listener:
        """Hear a connection that the application registered, in place of its page.

        Args:
            user: whose it is, for messages of failure and `catch_up`.
        """
        listener = Listener(self.client, user or conn_id, conn_id, self.line())
        self._listeners.append(listener)
        listener.wait_for()
        return listener

    def line(self) -> Line:
        """A line to this server that can be cut and stalled: its `url` is for a browser, or any other client."""
        self._lines.append(Line(self.port))
        return self._lines[-1]

    def restart(self) -> None:
        """Stop it, and start it anew on the same port: it has forgotten everything."""
        self._stop()
        self._process, self.port = self._start(self.port)

    def clear(self) -> None:
        """Close the listeners and the lines, and end their connections."""
        for listener in self._listeners:
            listener.close()
            if self._process.poll() is None:
                self.client.disconnect(listener.conn_id)
        for line in self._lines:
            line.close()
        self._listeners, self._lines = [], []

    def close(self) -> None:
        """End it, and all that listens to it."""
        self.clear()
        self._stop()
        self.client.close()

    def _start(self, port: int) -> tuple["subprocess.Popen[str]", int]:
        words = [*command(), "--port", str(port), "--log-format", "human", *self._flags]
        # The secret travels by the environment: arguments of a process are for everybody to read.
        environ = os.environ | {
            "CHANNELSTREAM_SECRET": self.secret,
            "CHANNELSTREAM_ADMIN_SECRET": self.secret,
        }
        process = subprocess.Popen(  # noqa: S603
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ
        )
        assert process.stdout is not None  # noqa: S101
        return process, self._wait_until_running(process, process.stdout)

    def _wait_until_running(self, process: "subprocess.Popen[str]", output: IO[str]) -> int:
        for text in output:
            self._keep(text)
            if found := _RUNNING.search(text):
                threading.Thread(target=self._read, args=(output,), daemon=True).start()
                return int(found[1])
        process.wait()
        raise RuntimeError("the channelstream server did not start:\n" + "\n".join(self.log))

    def _read(self, output: IO[str]) -> None:
        with output:
            for text in output:
                self._keep(text)

    def _keep(self, text: str) -> None:
        self.log.append(text.rstrip("\n"))
        del self.log[:-KEPT_LINES]

    def _stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
