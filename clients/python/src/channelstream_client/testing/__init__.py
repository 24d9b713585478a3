"""What the pytest plugin hands out: a real server, lines to it that can be cut, and listeners that tell what they heard."""

from channelstream_client.testing.line import Line
from channelstream_client.testing.listener import Listener, NotHeard
from channelstream_client.testing.server import NotInstalled, TestServer

__all__ = ["Line", "Listener", "NotHeard", "NotInstalled", "TestServer"]
