"""The shared state behind six ports: event log, directory, cluster of nodes, time series, outbox, move to another process.

An engine accepts events, assigns their offsets and delivers them in order to the receiver it was started with. It never
imports `service`. The ports are in `base.py`, `cluster.py`, `time_series.py`, `outbox.py` and `movable.py`; every
implementation runs `tests/engines/conformance`.
"""
