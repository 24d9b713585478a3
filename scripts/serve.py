"""Runs `channelstream`. Ctrl-C ends it with exit code 0, so that make reports no error."""

import sys

from channelstream.cli import INTERRUPTED, main

code = main()
sys.exit(0 if code == INTERRUPTED else code)
