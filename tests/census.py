"""The objects that are alive."""

import gc
from collections import Counter

from channelstream.core.endings import Ending


def census() -> Counter[str]:
    """Count the objects that are alive, by type; without endings, of which a node keeps the last ones on purpose."""
    return Counter(
        f"{type(thing).__module__}.{type(thing).__qualname__}"
        for thing in gc.get_objects()
        if str(type(thing).__module__).startswith(("channelstream", "uvloop", "_asyncio"))
        and not isinstance(thing, Ending)
    )
