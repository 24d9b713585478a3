"""One process of the service: its use cases, and what nodes ask of each other where they share an engine.

`node.py` has what the API and the transports ask for, `commands.py` what one node asks of another.
"""

from channelstream.node.node import Node, NodeLimits, Opened, Subscribed

__all__ = ["Node", "NodeLimits", "Opened", "Subscribed"]
