"""Keys of very many names are made and read in short loop turns."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace
from tests.turns import turns_of_others

from channelstream import slices
from channelstream.api.call import Call
from channelstream.api.messages import publish
from channelstream.apps.app import App, AppLimits
from channelstream.apps.keys import DEFAULT, MARK
from channelstream.core.accepted import Accepted
from channelstream.core.events import Event, Message
from channelstream.core.position import Position
from channelstream.core.user import UserUpdate
from channelstream.engines.members import Member
from channelstream.errors import Invalid, TooManyRequests
from channelstream.http.parts import encode
from channelstream.service import Opened, Service
from channelstream.service.limits import NodeLimits
from channelstream.service.service import KEYS_SLICE, SHARED_KEYS, shared
from channelstream.slices import SET_STEP
from channelstream.wire.channelstream import V07

Use = Callable[[Service, list[str]], Awaitable[Any]]


class CalledNode:
    """A node that answers at once, with all that it is asked about, and remembers the keys."""

    clock = SimpleNamespace(steady=lambda: 0.0, wall=lambda: 0.0)
    new_id = None

    def __init__(self, keys: list[str]) -> None:
        self.keys = keys
        self.directory = self
        connections = {key: SimpleNamespace(id=key) for key in keys}
        self.hub = SimpleNamespace(
            connections=connections, rounds=SimpleNamespace(is_behind=False, waiting_events=0)
        )
        self.asked: list[list[str] | None] = []
        self.events: list[Event] = []

    async def publish(self, events: Sequence[Event]) -> list[Accepted]:
        self.events += events
        return [Accepted(event, duplicate=False, found=False) for event in events]

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


@pytest.mark.replaces_compiled
@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize(("count", "turns"), [(0, 0), (KEYS_SLICE, 0), (3 * KEYS_SLICE + 1, 3)])
def test_other_tasks_run_between_slices_of_keys(use: Use, count: int, turns: int) -> None:
    app = App("shop")
    names = [str(number) for number in range(count)]
    node: Any = CalledNode(list(map(app.key, names)))

    _, seen = asyncio.run(turns_of_others(use(Service(app, node), names)))

    assert seen == turns
    wanted = None if use is USES["all channels"] else node.keys
    assert all(keys == wanted for keys in node.asked)


@pytest.mark.replaces_compiled
def test_members_have_their_names() -> None:
    app = App("shop")
    names = [str(number) for number in range(KEYS_SLICE + 1)]
    node: Any = CalledNode(list(map(app.key, names)))

    assert asyncio.run(Service(app, node).members("a")) == dict.fromkeys(names, "a")


@pytest.mark.replaces_compiled
@pytest.mark.parametrize("at_once", [True, False])
def test_a_message_counts_once(at_once: bool) -> None:
    """Whether the engine accepts it at once or later: against the rate of the application, and as published."""
    node: Any = CalledNode([])
    node.publish_at_once = lambda message: (
        Accepted(message, duplicate=False, found=False) if at_once else None
    )
    service = Service(App("shop", AppLimits(messages_per_s=2)), node)
    message = Message(uuid="m", channel="a", user="u", payload=b"1", timestamp="t")

    async def life() -> None:
        for _ in range(2):
            accepted = service.publish_one(message)
            accepted = accepted if isinstance(accepted, Accepted) else await accepted
            assert accepted.event.channel == service.app.key("a")
        with pytest.raises(TooManyRequests):
            service.publish_one(message)

    asyncio.run(life())
    assert (service.published, len(node.events)) == (2, 0 if at_once else 2)


def test_keys_of_channels_are_shared_and_not_kept_for_ever() -> None:
    """Strangers may name channels without end."""
    assert shared("".join(("a", "-channel"))) is shared("".join(("a-", "channel")))
    for number in range(SHARED_KEYS + 1):
        shared(f"channel {number}")
    assert shared.cache_info().currsize == SHARED_KEYS


NAMES = [f"user {number}" for number in range(3 * KEYS_SLICE)]


@pytest.mark.replaces_compiled
@pytest.mark.parametrize("app", [App(), App("shop")], ids=["default", "shop"])
@pytest.mark.parametrize("names", [NAMES, [*NAMES, f"{MARK}a"]], ids=["plain", "with a mark"])
def test_an_event_for_very_many_users_gets_its_keys_in_slices(
    monkeypatch: pytest.MonkeyPatch, app: App, names: list[str]
) -> None:
    """The same as in one step, alone or in a list with others; keys that are the names are not made again."""
    monkeypatch.setattr(slices, "TURN_S", -1.0)
    event = Message(uuid="m", only=frozenset(names), user="ann", payload=b"1", timestamp="t")
    public = replace(event, only=None, channel="a")

    for events, others in (([event], 0), ([public, event], 1)):
        node: Any = CalledNode([])
        _, seen = asyncio.run(turns_of_others(Service(app, node).publish(events)))
        assert node.events == [app.keyed(each) for each in events]
        are_names = node.events[-1].only is event.only
        assert are_names == (app.id == DEFAULT and names is NAMES)
        # Without a mark, each slice is looked at in a turn of its own. Keys are made in `set_of`.
        least = len(NAMES) // KEYS_SLICE if are_names else len(NAMES) // SET_STEP + 2
        assert seen - others >= least


@pytest.mark.replaces_compiled
@pytest.mark.parametrize("is_list", [False, True])
@pytest.mark.parametrize(("count", "least"), [(SET_STEP, 0), (10 * SET_STEP, 12)])
def test_the_very_many_users_of_a_body_are_made_a_set_in_slices(
    monkeypatch: pytest.MonkeyPatch, is_list: bool, count: int, least: int
) -> None:
    """Also in a list; the events are complete, and in the order of the bodies."""
    names = [f"user {number}" for number in range(count)]
    bodies = [{"user": "ann", "pm_users": names, "message": 1}, {"user": "ann", "channel": "a", "message": 2}]
    node: Any = CalledNode([])
    node.new_id = lambda: "id"
    service = Service(App(), node)

    def turns(limit_s: float) -> int:
        monkeypatch.setattr(slices, "TURN_S", limit_s)
        call = Call.internal(service, encode(bodies if is_list else bodies[0]))
        return asyncio.run(turns_of_others(publish(call)))[1]

    assert turns(-1.0) - turns(3600.0) >= least
    assert [each.only for each in node.events] == [frozenset(names), *([None] if is_list else [])] * 2


@pytest.mark.replaces_compiled
@pytest.mark.parametrize("app_id", [DEFAULT, "shop"])
def test_a_connection_is_registered_by_keys_and_described_by_names(app_id: str) -> None:
    """Its channels are sorted by their names."""
    node: Any = CalledNode([])
    app, asked = App(app_id), list[Any]()
    names = ["b", f"{MARK}c", "a"]

    def connect(member: Member, *of_call: Any) -> SimpleNamespace:
        asked.extend((member, *of_call))
        return SimpleNamespace(name=member.user)

    node.limits, node.new_id = NodeLimits(), lambda: "1"
    node.connects_at_once, node.connect_at_once = True, connect
    opened = Service(app, node).connect_at_once("ann", V07, names, UserUpdate({}, {}), "e-1")
    assert isinstance(opened, Opened)
    conn_id = "1" if app_id == DEFAULT else "shop.1"
    assert asked[0] == Member(app.key(conn_id), app.key("ann"), V07)
    assert asked[1:] == [{app.key(name): {} for name in names}, UserUpdate({}, {}), "e-1"]
    assert (opened.conn_id, opened.user.name, opened.channels) == (conn_id, app.key("ann"), sorted(names))


@pytest.mark.replaces_compiled
def test_an_engine_that_always_waits_is_not_asked_to_connect_at_once() -> None:
    """Neither an id is drawn nor a key made."""
    node: Any = CalledNode([])
    app: Any = SimpleNamespace(limits=AppLimits())
    node.connects_at_once = False
    assert Service(app, node).connect_at_once("ann", V07, ["a"], UserUpdate({}, {}), "") is None


@pytest.mark.replaces_compiled
@pytest.mark.parametrize("call", ["connect", "connect at once", "subscribe"])
def test_too_many_channels_are_refused_before_their_keys_are_made(call: str) -> None:
    node: Any = CalledNode([])
    node.limits = NodeLimits(channels_per_connection=2)
    app: Any = SimpleNamespace(limits=AppLimits())  # It makes no key.
    node.connects_at_once = True
    service, channels = Service(app, node), {"a": {}, "b": {}, "c": {}}

    async def connect_at_once() -> None:
        service.connect_at_once("ann", V07, list(channels), UserUpdate({}, {}), "")

    calls: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
        "connect": lambda: service.connect(None, "ann", V07, channels, UserUpdate({}, {})),
        "connect at once": connect_at_once,
        "subscribe": lambda: service.subscribe("c", channels),
    }

    with pytest.raises(Invalid, match="at most 2 channels"):
        asyncio.run(calls[call]())
