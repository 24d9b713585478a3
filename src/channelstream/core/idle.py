"""Which users without connections and channels without members are forgotten next: those that have been idle for longest."""

from typing import TypeVar

from channelstream.core.channel import Channel
from channelstream.core.linked_order import LinkedOrder
from channelstream.core.user import User

_I = TypeVar("_I", Channel, User)
LONG_AGO_S = 366 * 86_400.0
"""Longer than any user or channel is kept without a connection."""


def add_idle(idle: LinkedOrder[_I], item: _I, is_brief: bool) -> None:
    """Make an item the last to be forgotten; if it is brief, the next, as if it had been idle for long."""
    if is_brief:
        item.idle_since_s -= LONG_AGO_S
        idle.move_to_start(item)
    else:
        idle.move_to_end(item)


def overdue(idle: LinkedOrder[_I], steady_s: float, after_s: float) -> _I | None:
    """Return the item with the longest idle time, if that is longer than `after_s`; 0 keeps all."""
    item = idle.oldest
    if item is None or not after_s or steady_s - item.idle_since_s <= after_s:
        return None
    return item


def idle_since_s(item: Channel | User) -> float:
    """Return the place of an item in the order: when it became idle, in the engine's clock; if it is brief, long before."""
    return item.idle_since_s
