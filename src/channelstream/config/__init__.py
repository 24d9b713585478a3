"""Settings: every option is declared once, in `settings.py`; all else here is derived from that table.

::

    values   what a kind of option accepts, and how it is written
    option   one option, and the sections they are shown in
    settings the table
    sources  INI file, environment     flags   command line
    loading  the sources merged into Settings, and what was wrong with them
    safety   which settings must not be served
    template the INI file of `make-config`     document docs/options.md
"""

from channelstream.config.loading import Loaded, load, load_settings
from channelstream.config.safety import check_safety
from channelstream.config.settings import OPTIONS, Settings

__all__ = ["OPTIONS", "Loaded", "Settings", "check_safety", "load", "load_settings"]
