"""Serves as `channelstream` does; Ctrl-C is a normal end here, so that make has nothing to complain about."""

import sys

from channelstream.cli import INTERRUPTED, main

code = main()
sys.exit(0 if code == INTERRUPTED else code)
