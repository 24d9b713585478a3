"""python-socketio under uvicorn: WebSocket only, messages by POST, one emit to all for each message."""

from contextlib import AbstractAsyncContextManager

from channelstream.bench.measure import Target
from channelstream.bench.peers.environments import Environment
from channelstream.bench.peers.peer import HOST, SERVERS, Peer, free_port, open_post, serving
from channelstream.bench.peers.socketio import OPENED_BY, OPENING, STREAM_PATH
from channelstream.bench.wire import Wire

_ENVIRONMENT = Environment("python-socketio", ("python-socketio==5.*", "uvicorn[standard]==0.*"))


def _serve() -> AbstractAsyncContextManager[Target]:
    wire = Wire(host=HOST, port=free_port(), stream_path=STREAM_PATH, opening=OPENING, opened_by=OPENED_BY)
    return serving(
        "python-socketio", (_ENVIRONMENT.python, SERVERS / "rooms.py", str(wire.port)), wire, open_post
    )


PEER = Peer("python-socketio", _ENVIRONMENT.missing, _serve, share=0.1)
