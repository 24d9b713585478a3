"""Compares other servers with this one, under the same load: one file for each. `peer.py` has the shared code."""

from collections.abc import Sequence

from channelstream.bench.peers import nats, nchan, ours, socketify, socketio, websockets
from channelstream.bench.peers.peer import Peer


def all_peers(socketify_python: str) -> Sequence[Peer]:
    """Return all servers that can be compared, channelstream first.

    Args:
        socketify_python: a Python interpreter with socketify; empty means none.
    """
    return (
        ours.PEER,
        nchan.PEER,
        nats.PEER,
        socketio.PEER,
        websockets.PEER,
        socketify.peer(socketify_python),
    )
