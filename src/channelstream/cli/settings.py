"""The settings of a command that does not serve."""

import sys
from argparse import Namespace
from collections.abc import Mapping

from channelstream.config import Settings, load
from channelstream.config.flags import Flags, given_flags


def settings_of(arguments: Namespace, environ: Mapping[str, str]) -> Settings:
    """Return the settings from parsed arguments, environment and file; warnings about them go to stderr."""
    file = getattr(arguments, "ini", None)
    loaded = load(Flags(file, given_flags(arguments)), environ)
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return loaded.settings
