"""channelstream with its defaults: signed calls, registered users, a log for resuming."""

from channelstream.bench.peers.peer import Peer
from channelstream.bench.servers import product

PEER = Peer("channelstream", lambda: "", product)
