"""channelstream: a push server for browsers behind a small signed REST API.

ARCHITECTURE.md lists the layers, whose imports point one way only (``tests/test_layers.py`` proves it).
"""

__version__: str


def __getattr__(name: str) -> str:
    """Read the version when it is asked for: most programs and workers start without it, in half the time."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    globals()[name] = found = version("channelstream")
    return found
