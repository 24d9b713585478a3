"""`python -m channelstream.cli` is `channelstream`."""

import sys

from channelstream.cli import main

sys.exit(main())
