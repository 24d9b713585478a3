"""Exits with 0 if a channelstream that accepts the secret of the examples answers at an address, else with 1."""

import os
import sys

from channelstream_client import Channelstream, ChannelstreamError, Retries

secret = os.environ.get("CHANNELSTREAM_SECRET", "secret")
with Channelstream(sys.argv[1], secret, retries=Retries(attempts=1), trust_env=False) as server:
    try:
        server.info()
    except ChannelstreamError:
        sys.exit(1)
