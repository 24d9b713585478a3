"""Centrifugo 6, if its binary is on the PATH: clients subscribe by its JSON protocol, messages by its HTTP API."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec

from channelstream.bench.measure import Target
from channelstream.bench.peers.peer import HOST, Peer, free_port, need_program, open_post, serving
from channelstream.bench.wire import Wire

_HELP = "put the binary `centrifugo` of a release at https://github.com/centrifugal/centrifugo/releases on the PATH"
_OPENING = ('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"bench"}}',)


def config(port: int) -> dict[str, object]:
    """Return the configuration. The ping interval is longer than a run: the load generator does not answer pings."""
    return {
        "http_server": {"address": HOST, "port": port},
        "client": {"insecure": True, "allowed_origins": ["*"], "ping_interval": "600s"},
        "http_api": {"insecure": True, "error_mode": "transport"},
        "usage_stats": {"disabled": True},
        "channel": {
            "without_namespace": {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}
        },
    }


@asynccontextmanager
async def _serve() -> AsyncIterator[Target]:
    port = free_port()
    wire = Wire(
        host=HOST,
        port=port,
        stream_path="/connection/websocket",
        opening=_OPENING,
        opened_by='"id":2',
    )
    publisher = partial(open_post, path="/api/publish", template=b'{"channel":"bench","data":%b}')
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_bytes(msgspec.json.encode(config(port)))
        async with serving("Centrifugo", ("centrifugo", "-c", path), wire, publisher) as target:
            yield target


PEER = Peer("Centrifugo", lambda: need_program("centrifugo", _HELP), _serve)
