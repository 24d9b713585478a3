"""Several worker processes that share one port, and a small parent that replaces those that die.

The parent reserves the port, starts workers and waits; it serves nothing. Each worker is a whole node with listening
sockets of its own, among which the kernel distributes new connections (SO_REUSEPORT of socket(7)). The sockets of a
dead worker close with it, so no client waits for it. A socket pair connects each worker with the parent: its messages
say that the worker serves and that its loop turns, and ask for an upgrade and answer it; its end means that the other
side is dead.
"""

VARIABLE = "_CHANNELSTREAM_PARENT"
"""Names the descriptor of what the parent keeps, in the environment of its new program."""
