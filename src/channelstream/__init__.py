"""channelstream: a push server for browsers behind a small signed REST API.

ARCHITECTURE.md lists the layers, whose imports point one way only (``tests/test_layers.py`` proves it).
"""

from importlib.metadata import version

__version__ = version("channelstream")
