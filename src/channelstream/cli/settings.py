"""The settings of a command that does not serve."""

import sys
from argparse import Namespace
from collections.abc import Mapping

from channelstream.config import Settings, load
from channelstream.config.flags import Flags, given_flags

ADDRESS = {
    "host": "The address at which the server listens.",
    "port": "The TCP port of the server.",
    "unix_socket": "Path of the unix socket of the server, instead of host and port.",
}
"""What the options of the address mean for a command that finds a server by them."""


def settings_of(arguments: Namespace, environ: Mapping[str, str]) -> Settings:
    """Return the settings from parsed arguments, environment and file; warnings about them go to stderr."""
    file = getattr(arguments, "ini", None)
    loaded = load(Flags(file, given_flags(arguments)), environ)
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return loaded.settings
