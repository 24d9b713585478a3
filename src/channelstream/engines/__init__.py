"""Where the shared truth lives: logs, channel settings, presence and user state, behind one port.

An engine accepts events, numbers them and hands them to the receiver it was started with, in order. It never
imports `node`. `base.py` is the port; every implementation runs `tests/engines/conformance.py`.
"""
