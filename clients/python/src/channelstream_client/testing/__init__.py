"""The objects of the pytest plugin: a real server, network lines that tests can cut, and listeners that keep events."""

from channelstream_client.testing.line import Line
from channelstream_client.testing.listener import Listener, NotHeard
from channelstream_client.testing.server import NotInstalled, TestServer

__all__ = ["Line", "Listener", "NotHeard", "NotInstalled", "TestServer"]
