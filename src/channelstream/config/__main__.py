"""`python -m channelstream.config` prints docs/options.md."""

import sys

from channelstream.config.document import render_markdown

sys.stdout.write(render_markdown())
