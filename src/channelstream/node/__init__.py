"""One process of the service: its use cases, and what nodes ask of each other where they share an engine.

`node.py` has what the API and the transports ask for, `held.py` the connections of this process, `handover.py` how they are
reached and fetched from other nodes, `commands.py` what one node asks of another. What is asked about one connection is done
one after the other (`locks.py`): nothing changes between a check and the act that follows it, however long the engine takes.
"""

from channelstream.node.local import NodeLimits
from channelstream.node.node import Node, Opened, Subscribed

__all__ = ["Node", "NodeLimits", "Opened", "Subscribed"]
