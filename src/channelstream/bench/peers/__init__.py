"""Compares other servers with this one, under the same load: one file for each. `peer.py` has the shared code."""

from collections.abc import Sequence

from channelstream.bench.peers import (
    centrifugo,
    django_channels,
    nats,
    nchan,
    ours,
    python_socketio,
    socketify,
    socketio,
    websockets,
)
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
        centrifugo.PEER,
        socketio.PEER,
        websockets.PEER,
        python_socketio.PEER,
        django_channels.PEER,
        socketify.peer(socketify_python),
    )
