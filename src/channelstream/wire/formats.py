"""The table of all formats of streams, each at its number (`core.format`)."""

from channelstream.core.format import Format
from channelstream.wire import channelstream

FORMATS: tuple[Format, ...] = (*channelstream.FORMATS,)
