"""The shared state behind one port: logs, channel settings, presence and user state.

An engine accepts events, assigns their offsets and delivers them in order to the receiver it was started with. It never
imports `node`. `base.py` is the port; every implementation runs `tests/engines/conformance.py`.
"""
