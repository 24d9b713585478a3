"""Settings. Every option is declared once, in `sections`; everything else is derived from that table."""

from channelstream.config.loading import Loaded, load
from channelstream.config.safety import check_safety
from channelstream.config.settings import OPTIONS, Settings

__all__ = ["OPTIONS", "Loaded", "Settings", "check_safety", "load"]
