"""Socket.IO on Node.js: WebSocket only, messages by POST, one emit to all for each message."""

import os
import shutil
import subprocess
from contextlib import AbstractAsyncContextManager

from channelstream.bench.measure import Target
from channelstream.bench.peers.environments import cache
from channelstream.bench.peers.peer import HOST, SERVERS, Peer, free_port, open_post, serving
from channelstream.bench.wire import Wire

STREAM_PATH = "/socket.io/?EIO=4&transport=websocket"
OPENING, OPENED_BY = ("40",), '40{"sid":'
"""The packets by which a client connects to the namespace `/`."""
_PACKAGE = "socket.io@^4.8.0"
_INSTALL_TIMEOUT_S = 100


def _missing() -> str:
    """Install the package if it is missing. Return why that is not possible, or an empty text."""
    if not shutil.which("node") or not shutil.which("npm"):
        return "install Node.js with `apt-get install nodejs npm`"
    folder = cache()
    if (folder / "node_modules" / "socket.io").is_dir():
        return ""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), _PACKAGE]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_INSTALL_TIMEOUT_S)
    except (subprocess.SubprocessError, OSError):
        return f"`{' '.join(command)}` failed: is the npm registry within reach?"
    return ""


def _serve() -> AbstractAsyncContextManager[Target]:
    wire = Wire(
        host=HOST,
        port=free_port(),
        stream_path=STREAM_PATH,
        opening=OPENING,
        opened_by=OPENED_BY,
    )
    environ = os.environ | {"NODE_PATH": str(cache() / "node_modules"), "NODE_ENV": "production"}
    command = ("node", SERVERS / "emit.cjs", str(wire.port))
    return serving("Socket.IO", command, wire, open_post, environ)


PEER = Peer("Socket.IO", _missing, _serve)
