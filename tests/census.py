"""The objects that are left of what has ended, as long as no garbage is collected."""

import gc
from collections import Counter
from collections.abc import Awaitable, Callable

from channelstream.core.endings import Ending


async def left_by(life: Callable[[], Awaitable[None]], rounds: int) -> dict[str, int]:
    """Return how many objects so many lives leave that end, by type; those are left out that not even half of them leave."""
    gc.collect()
    gc.disable()
    try:
        await life()
        before, objects = _census(), len(gc.get_objects())
        for _ in range(rounds):
            await life()
        print(f"{len(gc.get_objects()) - objects} objects more after {rounds} rounds")
        return {name: more for name, more in (_census() - before).items() if more >= rounds // 2}
    finally:
        gc.enable()


def _census() -> Counter[str]:
    """Count the objects that are alive, by type; without endings, of which a node keeps the last ones on purpose."""
    return Counter(
        f"{type(thing).__module__}.{type(thing).__qualname__}"
        for thing in gc.get_objects()
        if str(type(thing).__module__).startswith(("channelstream", "uvloop", "_asyncio"))
        and not isinstance(thing, Ending)
    )
