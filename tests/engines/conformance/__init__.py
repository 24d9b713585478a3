"""What every engine must do: one suite, run by each implementation, with a part for each port.

| port | files |
| --- | --- |
| `EventLog` | `event_log.py`, `compaction.py`, `drawn_changes.py` |
| `Directory` | `directory.py`, `channels.py`, `brief_channels.py`, `connecting.py`, `presence.py`; `restarts.py` |
| `Cluster` | `cluster.py`; `nodes.py` for what nodes owe each other |
| `TimeSeries` | `time_series.py` |
| `Outbox` | `outbox.py` |

A test module of an engine imports everything from here and provides the fixture `make_engine`, a function that takes
a `Setup` and returns an engine that has not been started. Engines whose receiver is called after `publish` returns
override the fixture `settle`, a coroutine function that returns once everything accepted has been delivered. An engine that
several nodes can share also runs `nodes.py`. One whose connections outlive their server runs `restarts.py`, with its
fixtures.
"""

from tests.engines.conformance.brief_channels import *  # noqa: F403
from tests.engines.conformance.channels import *  # noqa: F403
from tests.engines.conformance.cluster import *  # noqa: F403
from tests.engines.conformance.compaction import *  # noqa: F403
from tests.engines.conformance.connecting import *  # noqa: F403
from tests.engines.conformance.directory import *  # noqa: F403
from tests.engines.conformance.drawn_changes import *  # noqa: F403
from tests.engines.conformance.event_log import *  # noqa: F403
from tests.engines.conformance.lab import *  # noqa: F403
from tests.engines.conformance.outbox import *  # noqa: F403
from tests.engines.conformance.presence import *  # noqa: F403
from tests.engines.conformance.time_series import *  # noqa: F403
