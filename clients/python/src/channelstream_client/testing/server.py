"""A real channelstream server in a separate process, on a free port."""

import importlib.util
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import IO, Any

from channelstream_client.client import Channelstream
from channelstream_client.errors import BadSignature, ChannelstreamError, NotFound, Refused
from channelstream_client.exchange import Retries
from channelstream_client.model import Info
from channelstream_client.names import listed
from channelstream_client.testing import guard
from channelstream_client.testing.line import Line
from channelstream_client.testing.listener import Listener
from channelstream_client.testing.port import HeldPort

START_TIMEOUT_S = 30.0
"""How long a server may take to start."""
STOP_TIMEOUT_S = 10.0
"""How long a server may take to end before it is killed. Its drain takes less."""
PROBE_INTERVAL_S = 0.02
PROBE_S = 2.0
"""Timeout of one attempt to reach the server."""
KEPT_LINES = 1000
"""Most lines of the server's log that are kept: the last ones."""
PORTS_TRIED = 3
"""Most ports that are tried: another program may take a free port first."""
HOW_TO_INSTALL = (
    "install one with `pip install .` in a clone of the server (from 1.0 on `pip install channelstream`)"
)


class NotInstalled(Exception):
    """There is no channelstream server in this environment."""


def command() -> Sequence[str]:
    """Return the command that starts the server: that of this Python environment, or else that on the PATH.

    Raises:
        NotInstalled: there is no server.
    """
    package = importlib.util.find_spec("channelstream")
    # A folder of this name is found too, as a package without a file of its own.
    if package and package.origin:
        if not _is_program(package):
            raise NotInstalled(
                f"the channelstream in this environment is an older one, such as 0.7; {HOW_TO_INSTALL}"
            )
        return [sys.executable, "-m", "channelstream"]
    beside = shutil.which("channelstream", path=str(Path(sys.executable).parent))
    if found := beside or shutil.which("channelstream"):
        return [found]
    raise NotInstalled(f"the channelstream server is not installed; {HOW_TO_INSTALL}")


def _is_program(package: ModuleSpec) -> bool:
    """Return whether `python -m` can run a package; it is not imported."""
    return PathFinder.find_spec(f"{package.name}.__main__", package.submodule_search_locations) is not None


class TestServer:
    """A server for tests, with the memory engine and a random secret.

    It ignores `CHANNELSTREAM_*` of the environment. It ends with this process, however that ends.

    Attributes:
        secret: the secret for signatures.
        client: a client with this secret.
        log: the last lines of the server's log.
    """

    __test__ = False  # Not a test class: pytest would collect it because of its name.

    def __init__(self, flags: Iterable[str] = (), *, start_timeout_s: float = START_TIMEOUT_S) -> None:
        """Start the server, and return when it answers.

        Args:
            flags: command line flags, for example `["--detach-grace-s", "1"]`.
            start_timeout_s: how long the server may take to start, in seconds.

        Raises:
            NotInstalled: the server is not installed.
            RuntimeError: the server ended or does not answer. The text contains its log.
        """
        self.secret = secrets.token_hex(16)
        self.log: list[str] = []
        self._flags = listed("flags", flags)
        self._start_timeout_s = start_timeout_s
        self._listeners: list[Listener] = []
        self._lines: list[Line] = []
        self._log_begin = ""
        self._process, self._port = self._start_somewhere()
        self.client = Channelstream(self.url, self.secret, trust_env=False)

    @property
    def port(self) -> int:
        return self._port.number

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def listen(self, user: str, channels: Iterable[str] = (), **connect: Any) -> Listener:
        """Register a connection and listen to it. The stream is open when this returns.

        Args:
            connect: further arguments of `Channelstream.connect`.
        """
        connection = self.client.connect(user, channels, **connect)
        since = connect.get("since") or connection.position
        return self.follow(connection.conn_id, user, since=since)

    def follow(self, conn_id: str, user: str = "", *, since: str = "") -> Listener:
        """Listen to a connection that the application registered, in place of its page.

        Args:
            user: the user of the connection, for failure texts and `catch_up`.
            since: the position from which the page reads. Empty means where the last listener of the connection ended; the
                first one receives all that was sent since the connection was registered.
        """
        listener = Listener(
            self.client, user or conn_id, conn_id, self.line(), since or self._end_of(conn_id)
        )
        self._listeners.append(listener)
        listener.wait_for()
        return listener

    def _end_of(self, conn_id: str) -> str:
        """Return the position at which the last listener of a connection ended, or that at which the log began."""
        ended = [listener.position for listener in self._listeners if listener.conn_id == conn_id]
        return ended[-1] if ended else self._log_begin

    def line(self) -> Line:
        """Return a proxy to this server that a test can cut and stall. A browser or any client can use its `url`."""
        self._lines.append(Line(self.port))
        return self._lines[-1]

    def restart(self) -> None:
        """Stop the server and start a new one on the same port. All state is lost."""
        self._stop(self._process)
        self._process = self._start(self.port)

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
        """End the server, its listeners and its lines."""
        self.clear()
        self._stop(self._process)
        self._port.release()
        self.client.close()

    def _start_somewhere(self) -> tuple["subprocess.Popen[str]", HeldPort]:
        """Start the server on a free port, with retries on other ports.

        The port stays held while no server listens. Otherwise another program could get it before the server listens or
        at a restart, and the answer of that program would count as the server's.
        """
        for left in reversed(range(PORTS_TRIED)):
            port = HeldPort()
            try:
                return self._start(port.number), port
            except BaseException as error:
                port.release()
                if not (isinstance(error, RuntimeError) and left and port.is_in_use()):
                    raise
        raise AssertionError("unreachable")

    def _start(self, port: int) -> "subprocess.Popen[str]":
        words = [*command(), "--log-format", "human", *self._flags, "--port", str(port)]
        # The secret is passed in the environment: every user can read the arguments of a process.
        environ = {name: value for name, value in os.environ.items() if not name.startswith("CHANNELSTREAM_")}
        environ |= {"CHANNELSTREAM_SECRET": self.secret, "CHANNELSTREAM_ADMIN_SECRET": self.secret}
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", "-S", guard.__file__, str(STOP_TIMEOUT_S), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environ,
            start_new_session=True,  # Ctrl-C must reach only the test run, which then ends the server.
        )
        assert process.stdout is not None  # noqa: S101
        reader = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        reader.start()
        try:
            self._wait_until_it_answers(process, port)
        except _NotStarted as error:
            self._stop(process)
            reader.join(STOP_TIMEOUT_S)
            raise RuntimeError(
                "\n".join([f"the channelstream server did not start: {error}", *self.log])
            ) from None
        except BaseException:
            self._stop(process)
            raise
        return process

    def _wait_until_it_answers(self, process: "subprocess.Popen[str]", port: int) -> None:
        until = time.monotonic() + self._start_timeout_s
        url = f"http://127.0.0.1:{port}"
        once = Retries(attempts=1)
        with Channelstream(url, self.secret, timeout_s=PROBE_S, retries=once, trust_env=False) as client:
            while (position := _position(client)) is None:
                if process.poll() is not None:
                    raise _NotStarted("it ended")
                if time.monotonic() > until:
                    raise _NotStarted(f"no answer within {self._start_timeout_s:g} s")
                time.sleep(PROBE_INTERVAL_S)
        self._log_begin = position

    def _read(self, output: IO[str]) -> None:
        with output:
            for text in output:
                self.log.append(text.rstrip("\n"))
                del self.log[:-KEPT_LINES]

    def _stop(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None  # noqa: S101
        process.stdin.close()
        process.terminate()  # Needed if a fork of this process still holds the pipe.
        process.wait()


class _NotStarted(Exception):
    """Why a server did not start."""


def _position(client: Channelstream) -> str | None:
    """Return the position of the server with our secret; None while it does not answer.

    With some flags it refuses the call, which counts as an answer: the position then is empty.
    """
    try:
        return client.info(Info(channels=[])).position
    except (BadSignature, NotFound):
        return None
    except Refused:
        return ""
    except ChannelstreamError:
        return None
