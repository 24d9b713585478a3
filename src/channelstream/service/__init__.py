"""One process of the service: the use cases of each application, and the commands between nodes that share an engine.

`service.py` has the use cases of the API, the transports and the admin pages, for one application, `services.py` has those
of all applications, and `node.py` is the process that they share: no other package calls an engine. `client_service.py` has
the use cases of a client that acts for itself, and `memberships.py` those of members whose names count in one channel only.
`last_messages.py` has the last messages of channels that keep them for later subscribers.
`connecting.py` registers connections, `local.py` has those of this process, `disconnect_queue.py` unregisters those that
end, `handover.py` has their moves between nodes, `commands.py` the messages between nodes, `executing.py` carries these out,
`cluster_calls.py` has what other nodes cause here.
`publishing.py` divides long lists of events into loop turns, and `signals.py` announces what happens. Operations on one
connection run one after the other (`locks.py`), so nothing changes between a check and the act that follows it, however
long the engine takes.
"""

from channelstream.engines.base import Counts
from channelstream.engines.outbox import Cursor, CursorsOfApps, Kept, Outbox, passed
from channelstream.engines.time_series import Record, TimeSeries
from channelstream.service.client_service import ClientService, Describe
from channelstream.service.connecting import Opened
from channelstream.service.key_rates import KeyRate
from channelstream.service.last_messages import LastMessages
from channelstream.service.limits import NodeLimits
from channelstream.service.memberships import Memberships
from channelstream.service.node import Node
from channelstream.service.remote_calls import RemoteResult
from channelstream.service.service import Service
from channelstream.service.services import Services

__all__ = [
    "ClientService",
    "Counts",
    "Cursor",
    "CursorsOfApps",
    "Describe",
    "Kept",
    "KeyRate",
    "LastMessages",
    "Memberships",
    "Node",
    "NodeLimits",
    "Opened",
    "Outbox",
    "Record",
    "RemoteResult",
    "Service",
    "Services",
    "TimeSeries",
    "passed",
]
