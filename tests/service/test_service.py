"""Keys of very many names are made and read in short loop turns."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from tests.turns import turns_of_others

from channelstream.apps.app import App
from channelstream.core.position import Position
from channelstream.core.user import UserUpdate
from channelstream.errors import Invalid
from channelstream.service import Service
from channelstream.service.limits import NodeLimits
from channelstream.service.service import KEYS_SLICE
from channelstream.wire.channelstream import V07

Use = Callable[[Service, list[str]], Awaitable[Any]]


class CalledNode:
    """A node that answers at once, with all that it is asked about, and remembers the keys."""

    clock = new_id = None

    def __init__(self, keys: list[str]) -> None:
        self.keys = keys
        self.hub = SimpleNamespace(connections={key: SimpleNamespace(id=key) for key in keys})
        self.asked: list[list[str] | None] = []

    async def members(self, channel: str) -> dict[str, str]:
        return dict.fromkeys(self.keys, channel)

    async def unsubscribe(self, conn_id: str, keys: list[str]) -> None:
        self.asked.append(keys)

    async def head(self, keys: list[str] | None, all_shards: bool) -> Position:
        self.asked.append(keys)
        return Position("e", (0,))

    async def channels(self, keys: list[str] | None, with_users: bool) -> list[Any]:
        self.asked.append(keys)
        return [SimpleNamespace(name=key) for key in keys or self.keys]


USES: dict[str, Use] = {
    "members": lambda service, _: service.members("a"),
    "head": lambda service, names: service.head(names),
    "some channels": lambda service, names: service.channels(names),
    "left channels": lambda service, names: service.unsubscribe("c", names),
    "all channels": lambda service, _: service.channels(None),
    "connections": lambda service, _: service.connections(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize(("count", "turns"), [(0, 0), (KEYS_SLICE, 0), (3 * KEYS_SLICE + 1, 3)])
def test_other_tasks_run_between_slices_of_keys(use: Use, count: int, turns: int) -> None:
    app = App("shop")
    names = [str(number) for number in range(count)]
    node: Any = CalledNode(list(map(app.key, names)))

    _, seen = asyncio.run(turns_of_others(use(Service(app, node), names)))

    assert seen == turns
    assert all(keys in (None, node.keys) for keys in node.asked)


def test_members_have_their_names() -> None:
    app = App("shop")
    names = [str(number) for number in range(KEYS_SLICE + 1)]
    node: Any = CalledNode(list(map(app.key, names)))

    assert asyncio.run(Service(app, node).members("a")) == dict.fromkeys(names, "a")


@pytest.mark.parametrize("call", ["connect", "subscribe"])
def test_too_many_channels_are_refused_before_their_keys_are_made(call: str) -> None:
    node: Any = CalledNode([])
    node.limits = NodeLimits(channels_per_connection=2)
    app: Any = SimpleNamespace()  # It makes no key.
    service, channels = Service(app, node), {"a": {}, "b": {}, "c": {}}
    calls = {
        "connect": lambda: service.connect(None, "ann", V07, channels, UserUpdate({}, {})),
        "subscribe": lambda: service.subscribe("c", channels),
    }

    with pytest.raises(Invalid, match="at most 2 channels"):
        asyncio.run(calls[call]())
