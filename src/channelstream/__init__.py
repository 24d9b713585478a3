"""channelstream: a push server for browsers behind a small signed REST API.

Layers, imports point to the left only (``tests/test_layers.py`` proves it)::

    errors <- core <- engines <- node <- asgi <- transports | api <- config <- pages | ... <- server <- cli
"""

from importlib.metadata import version

__version__ = version("channelstream")
