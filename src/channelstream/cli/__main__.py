"""`python -m channelstream.cli`: the same as `channelstream`."""

import sys

from channelstream.cli import main

sys.exit(main())
