"""Real proxies in front of a server: nginx and HAProxy with the files of `examples/deploy`, in folders of their own."""

import grp
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.waiting import PATIENCE_S

DEPLOY = Path(__file__).parents[1] / "examples/deploy"
PLACES = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def program(name: str) -> str:
    """Path of a proxy; without it the test is skipped."""
    found = shutil.which(name, path=PLACES)
    if found is None:
        pytest.skip(f"No {name} is here; on Debian: apt-get install {name}.")
    return found


class Proxy:
    """A proxy that listens on a port of 127.0.0.1 and shares one connection with the server among its clients.

    Attributes:
        port: where it listens; the socket is bound here and handed over, so that no port is guessed.
        errors: a file of what it complains of.
    """

    def __init__(
        self, directory: Path, kind: str, server_port: int, changes: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Start one.

        Args:
            kind: `nginx` or `haproxy` as shipped; `-trusting` behind it passes every Upgrade on, as many proxies do.
            changes: patterns of the shipped file of nginx, each with what replaces it.
        """
        self._directory = directory
        self._changes = changes
        self.errors = directory / "errors"
        name, _, self._is_trusting = kind.partition("-")
        with (
            socket.create_server(("127.0.0.1", 0), backlog=100) as listener,
            self.errors.open("wb") as errors,
        ):
            self.port = int(listener.getsockname()[1])
            make = self._nginx if name == "nginx" else self._haproxy
            command = [program(name), *make(server_port, listener.fileno())]
            self._process = subprocess.Popen(
                command,
                pass_fds=[listener.fileno()],
                # This is where nginx looks for sockets that are open already.
                env=os.environ | {"NGINX": f"{listener.fileno()};"},
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=PATIENCE_S)

    def _nginx(self, server_port: int, _: int) -> list[str]:
        text = (DEPLOY / "nginx.conf").read_text()
        text = _replace(text, r"    listen 80;", f"    listen 127.0.0.1:{self.port};")
        text = _replace(
            text, r"(    server .* max_fails=0;\n)+", f"    server 127.0.0.1:{server_port} max_fails=0;\n"
        )
        text = _replace(text, r"    keepalive 32;", "    keepalive 1;")
        if self._is_trusting:
            text = _replace(
                text, r"    default   '';\n    websocket upgrade;", "    default upgrade;\n    '' '';"
            )
            passed = "proxy_set_header Upgrade $http_upgrade;\n    proxy_set_header Connection $connection_upgrade;"
            text = _replace(text, r'proxy_set_header Connection "";', passed)
        for old, new in self._changes:
            text = _replace(text, old, new)
        kept = "".join(f"{kind}_temp_path {self._directory};\n" for kind in TEMPORARY)
        me = pwd.getpwuid(os.getuid())
        main = self._directory / "main.conf"
        main.write_text(
            f"daemon off;\nworker_processes 1;\nuser {me.pw_name} {grp.getgrgid(me.pw_gid).gr_name};\n"
            f"pid {self._directory}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{kept}{text}}}\n"
        )
        return ["-e", "stderr", "-c", str(main)]

    def _haproxy(self, server_port: int, listener: int) -> list[str]:
        text = (DEPLOY / "haproxy.cfg").read_text()
        text = _replace(text, r"    bind :80", f"    bind fd@{listener}")
        text = _replace(text, r"(    server node\d .*\n)+", f"    server node 127.0.0.1:{server_port}\n")
        if self._is_trusting:
            text = _replace(text, r"    http-request del-header Upgrade .*", "")
            text = _replace(text, r"(?=    balance )", "    http-reuse always\n")
        main = self._directory / "haproxy.cfg"
        main.write_text("global\n    nbthread 1\n\n" + text)
        return ["-db", "-f", str(main)]


def _replace(text: str, old: str, new: str) -> str:
    """Replace what must be there once."""
    changed, count = re.subn(old, lambda _: new, text)
    assert count == 1, old
    return changed
