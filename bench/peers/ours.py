"""channelstream with its defaults: signed calls, registered users, a log for resuming."""

from channelstream.bench.servers import product
from peers.peer import Peer

PEER = Peer("channelstream", lambda: "", product)
