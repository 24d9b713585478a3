"""The shared state behind three ports: the event log, the directory of users and channels, the cluster of nodes.

An engine accepts events, assigns their offsets and delivers them in order to the receiver it was started with. It never
imports `service`. The ports are in `base.py` and `cluster.py`; every implementation runs `tests/engines/conformance`.
"""
