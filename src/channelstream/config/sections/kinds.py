"""Kinds of values that options of several sections have."""

from channelstream.config.values import Number, Text

DAY_S = 86_400
AGE = Number(0.01, 365 * DAY_S)
DELAY = Number(0.01, DAY_S)
MAX_RATE = 1_000_000
"""Highest rate that an option bounds, a second."""
PATH = Text(max_bytes=4096)
