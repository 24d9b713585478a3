"""uWebSockets, the C++ server, by the PyPI package socketify: topics, and messages by POST."""

import subprocess
from contextlib import AbstractAsyncContextManager

from channelstream.bench.measure import Target
from channelstream.bench.peers.peer import HOST, SERVERS, Peer, free_port, open_post, serving
from channelstream.bench.wire import Wire

_HELP = "install it with `python -m venv V && V/bin/pip install socketify` and say `--socketify-python V/bin/python`"
_IMPORT_TIMEOUT_S = 30


def _has_it(python: str) -> bool:
    if not python:
        return False
    command = [python, "-c", "import socketify"]
    try:
        return not subprocess.run(command, capture_output=True, timeout=_IMPORT_TIMEOUT_S).returncode
    except (subprocess.SubprocessError, OSError):
        return False


def peer(python: str) -> Peer:
    """Return the peer for a Python interpreter; empty means that there is none."""

    def serve() -> AbstractAsyncContextManager[Target]:
        wire = Wire(host=HOST, port=free_port())
        command = (python, SERVERS / "topics.py", str(wire.port))
        return serving("uWebSockets", command, wire, open_post)

    return Peer("uWebSockets", lambda: "" if _has_it(python) else _HELP, serve)
