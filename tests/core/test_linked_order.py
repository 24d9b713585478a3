"""Items in the order of their last change: a linked list, which agrees with an ordered dict and is never copied."""

import tracemalloc
from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from channelstream.core.budget import Budget
from channelstream.core.linked_order import LinkedOrder
from channelstream.core.log import Log, LogLimits


def logs(count: int) -> list[Log]:
    budget = Budget(10_000)
    return [Log(LogLimits(10), budget, 0) for _ in range(count)]


def listed(order: LinkedOrder[Log]) -> list[Log]:
    """All logs, oldest first; the links in the other direction agree."""
    found, log = list[Log](), order.oldest
    while log is not None:
        assert log.older is (found[-1] if found else None)
        found.append(log)
        log = log.newer
    assert order.newest is (found[-1] if found else None)
    assert list(order) == found
    return found


@given(st.lists(st.tuples(st.sampled_from(["end", "start", "remove"]), st.integers(0, 4))))
def test_it_agrees_with_an_ordered_dict(steps: list[tuple[str, int]]) -> None:
    """Whatever is appended and removed, also what is not there; a removed log refers to no other."""
    known, order, model = logs(5), LinkedOrder[Log](), OrderedDict[Log, None]()
    for step, number in steps:
        log = known[number]
        if step == "end":
            order.move_to_end(log)
            model[log] = None
            model.move_to_end(log)
        elif step == "start":
            order.move_to_start(log)
            model[log] = None
            model.move_to_end(log, last=False)
        else:
            order.remove(log)
            model.pop(log, None)
            assert (log.older, log.newer) == (None, None)
        assert listed(order) == list(model)


def test_it_takes_another_order() -> None:
    """Of all its items, and keeps the links."""
    known, order = logs(5), LinkedOrder[Log]()
    for number in (3, 0, 4):
        order.move_to_end(known[number])
    order.sort(lambda log: float(known.index(log)))
    assert listed(order) == [known[0], known[3], known[4]]


def test_no_step_copies_what_is_known() -> None:
    """An ordered dict of 10,000 logs is copied several times as it grows and is changed, each time in one step."""
    known, order = logs(10_000), LinkedOrder[Log]()
    order.move_to_end(known[0])
    tracemalloc.start()
    try:
        for log in known:
            order.move_to_end(log)
        for log in known:
            order.remove(log)
            order.move_to_end(log)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 10_000
