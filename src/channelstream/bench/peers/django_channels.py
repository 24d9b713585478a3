"""Django Channels under uvicorn, with its layer in memory: messages by POST, one `group_send` for each message."""

from contextlib import AbstractAsyncContextManager

from channelstream.bench.measure import Target
from channelstream.bench.peers.environments import Environment
from channelstream.bench.peers.peer import HOST, SERVERS, Peer, free_port, open_post, serving
from channelstream.bench.wire import Wire

_ENVIRONMENT = Environment("django-channels", ("channels==4.*", "uvicorn[standard]==0.*"))


def _serve() -> AbstractAsyncContextManager[Target]:
    wire = Wire(host=HOST, port=free_port())
    return serving(
        "Django Channels", (_ENVIRONMENT.python, SERVERS / "groups.py", str(wire.port)), wire, open_post
    )


PEER = Peer("Django Channels", _ENVIRONMENT.missing, _serve, share=0.02)
