"""One process of the service: the use cases of each application, and the commands between nodes that share an engine.

No other package calls an engine, but for the ports that the node hands out.

- Use cases: `service.py` has those of one application, for the API, the transports and the admin pages, `services.py` those
  of all applications; `client_service.py` those of a client that acts for itself, `memberships.py` those of members whose
  names count in one channel only; `last_messages.py` has the last messages of channels that keep them for later subscribers.
- The process that all applications share: `node.py`. `publishing.py` divides long lists of events into loop turns, and
  `signals.py` announces what happens.
- Connections: `connecting.py` registers them, `local.py` has those of this process, `disconnect_queue.py` unregisters those
  that end. Operations on one connection run one after the other (`locks.py`), so nothing changes between a check and the act
  that follows it, however long the engine takes.
- Other nodes: `handover.py` has the moves of connections between nodes, `commands.py` the messages between nodes,
  `executing.py` carries these out, `cluster_calls.py` has what other nodes cause here.
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
