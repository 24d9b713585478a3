"""How much the garbage collector looks at in one turn of the event loop."""

import gc

from channelstream.lifecycle import GC_THRESHOLDS

SLACK = 5_000
"""Objects that pytest itself makes meanwhile."""


def test_no_collection_looks_at_very_many_objects() -> None:
    """Though very many connections are opened, which are many objects, and none of them garbage."""
    looked_at: list[int] = []

    def look(phase: str, about: dict[str, int]) -> None:
        if phase == "start":
            young = range(about["generation"] + 1)
            looked_at.append(sum(len(gc.get_objects(generation)) for generation in young))

    before = gc.get_threshold()
    gc.collect()
    gc.callbacks.append(look)
    try:
        gc.set_threshold(*GC_THRESHOLDS)
        kept: list[list[int]] = [[number] for number in range(100_000)]
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(look)
    assert len(kept) == 100_000
    assert 10 < len(looked_at) < 30
    assert max(looked_at) < 30_000 + SLACK
