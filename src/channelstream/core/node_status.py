"""What is known about each node of a service."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A node, as the engine lists it.

    Attributes:
        id: its name in log lines.
        label: the machine and the process, for people.
        connections: how many it had at its last heartbeat.
        heartbeat_s: time of that heartbeat, in seconds since 1970, by the clock that all nodes share.
        is_alive: whether its lease runs. The other nodes unregister the connections of a node whose lease has ended.
        was_stopped: it has ended on purpose.
    """

    id: str
    label: str
    connections: int
    heartbeat_s: float
    is_alive: bool
    was_stopped: bool = False
