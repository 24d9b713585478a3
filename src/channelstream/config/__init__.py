"""Settings. Every option is declared once, in `sections`; everything else is derived from that table.

::

    values, networks  kinds of values: parsing and writing them
    option            one option, and the sections of the table
    sections          the table: a module for each section
    settings          all sections as one dataclass, and the options by name
    app_section       what the section of a further application sets
    app_names         how sections and variables name an application and its option
    sources, flags    INI file and environment, command line
    loading           merges the sources into Settings, and collects their faults
    safety            settings that must not be served
    template          the INI file of `make-config`
    document          docs/options.md
    applications      the applications that the options describe
    keys_file         the file with keys of applications
    cookies           the key of cookies if none is configured
    listening, tls    where to listen, TLS contexts
"""

from channelstream.config.loading import Loaded, load, load_settings
from channelstream.config.safety import check_safety
from channelstream.config.settings import OPTIONS, Settings

__all__ = ["OPTIONS", "Loaded", "Settings", "check_safety", "load", "load_settings"]
