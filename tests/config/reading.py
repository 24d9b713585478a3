"""Settings of a command line and an environment, as a server that starts reads them."""

from collections.abc import Mapping, Sequence

from channelstream.config import Loaded, load
from channelstream.config.flags import read_flags, settings_parser


def load_settings(argv: Sequence[str], environ: Mapping[str, str]) -> Loaded:
    return load(read_flags(settings_parser(), argv), environ)
