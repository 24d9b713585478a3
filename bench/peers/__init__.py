"""The servers that `bench/compare.py` compares: one file each; what they have in common is in `peer.py`."""

from collections.abc import Sequence

from peers import nats, nchan, ours, socketify, socketio, websockets
from peers.peer import Peer


def all_peers(socketify_python: str) -> Sequence[Peer]:
    """Every server that can be compared, channelstream first.

    Args:
        socketify_python: an interpreter that has socketify; empty means that there is none.
    """
    return (
        ours.PEER,
        nchan.PEER,
        nats.PEER,
        socketio.PEER,
        websockets.PEER,
        socketify.peer(socketify_python),
    )
