"""`python -m channelstream` is the command `channelstream`."""

import sys

from channelstream.cli import main

sys.exit(main())
