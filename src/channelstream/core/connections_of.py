"""The connections of one user: a tuple while it is one, as for most users, else a dict.

A dict of one connection takes 184 bytes more than a tuple, which is a twentieth of an idle connection. A tuple of many
would be copied for each of them.
"""

from channelstream.core.connection import Connection

Connections = tuple[Connection] | dict[Connection, None]


def with_connection(others: Connections | None, connection: Connection) -> Connections:
    """Return the connections with another one; None stands for none. A dict is changed in place."""
    if others is None:
        return (connection,)
    if isinstance(others, tuple):
        return {others[0]: None, connection: None}
    others[connection] = None
    return others


def without_connection(connections: Connections, connection: Connection) -> Connections | None:
    """Return the connections without one of them; None if it is the last one. A dict is changed in place."""
    if isinstance(connections, tuple):
        return None
    del connections[connection]
    if len(connections) > 1:
        return connections
    (last,) = connections
    return (last,)
