"""Two applications on one node and one engine: each is served as if the other did not exist.

Both take the steps of one script, in turn, with the same names of channels, users and connections, the same uuids of
messages and the same idempotency keys; only the texts differ. Whatever each is answered, on the API, on streams, on the
admin pages and in traces, is compared with what a server answers that has one application.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from tests.fixed_auth import FixedAuth
from tests.redis_server import RedisServer

from channelstream.admin.key_uses import KeyTable, KeyUses
from channelstream.admin.listing import PageRequest
from channelstream.admin.panel import Panel
from channelstream.admin.sampler import Sampler
from channelstream.api.app import Api
from channelstream.api.endpoints import ENDPOINTS
from channelstream.api.table import Auth
from channelstream.apps.app import App, Apps
from channelstream.apps.key_ring import KeyRing
from channelstream.apps.keys import MARK
from channelstream.apps.principal import ALL_RIGHTS, Principal
from channelstream.config import Settings
from channelstream.core.policy import Policy
from channelstream.core.position import shard_of
from channelstream.core.user import UserUpdate
from channelstream.engines.redis import address
from channelstream.http.asgi import RouterApp
from channelstream.http.refusals import RefusalTable
from channelstream.http.router import Router
from channelstream.integrations.metrics.meter import Meter
from channelstream.server import build
from channelstream.service import Node, Service, Services
from channelstream.tracing import Tracer
from channelstream.transports.routes import stream_routes
from channelstream.transports.settings import StreamSettings
from channelstream.transports.streams import Streams
from channelstream.watchdog import Watchdog
from channelstream.wire.channelstream import V07

SHOP = App("shop")
DEFAULT_TEXT, SHOP_TEXT = "written for the default one", "written for the shop"
UUIDS = [f"00000000-0000-4000-8000-{number:012d}" for number in range(1, 10)]
FIRST, SECOND, PRIVATE, ONLY, EXCLUDED, STORED, LATE, END, LAST = UUIDS
VARYING = {
    *(
        "position",
        "server_position",
        "timestamp",
        "date",
        "edited",
        "last_active",
        "at",
        "at_s",
        "since",
        "lag",
    ),
    *("seconds_left", "expires_in_s", "wait_s"),
}
"""Keys of answers whose values differ from run to run, or are those of a log that the applications share."""
FIELDS = re.compile(r'"(?:type|channel|user|text)":"[^"]*"')
"""What is compared of an event that an admin page shows as text, cut at some length."""
ACCEPTED = ("accepted", "repeated")
FACT = ("what", "type", "uuid", "channel", "by", "size")
"""The notes of a trace that are compared, and of them these keys: the others tell when each event arrived."""
ROOM = {"notify_presence": True, "store_history": True, "notify_state": True}
LISTS = {"broadcast_presence_with_user_lists": True}


class World:
    """One application as its own server, its clients and its admin see it.

    Attributes:
        answers: all that it was answered, in the order of the script.
        seen: of these what is the same in each run.
    """

    def __init__(self, streams: Streams, app: App) -> None:
        services = streams.services
        self.service: Service = services.of(app)
        self.answers: list[Any] = []
        self.seen: list[Any] = []
        auth = FixedAuth(Principal(app, rights=ALL_RIGHTS))
        api = Api(services, dict.fromkeys(Auth, auth), 1 << 20)
        routes = [*api.routes(ENDPOINTS), *stream_routes(streams, self.service)]
        self._transport = httpx.ASGITransport(RouterApp(Router(Policy(), routes)))
        self.tracer = Tracer(self.service)
        sampler = Sampler(self.service.node, Watchdog(0.1), Meter(lambda: 0))
        node = self.service.node
        keys = KeyTable(self.service, KeyRing(), KeyUses(sampler.history, node.time_series, node.clock.wall))
        self._panel = partial(Panel, self.service, streams, sampler, RefusalTable(), keys)

    async def ask(self, method: str, target: str, body: Any = None, **headers: str) -> Any:
        async with httpx.AsyncClient(transport=self._transport, base_url="http://test") as client:
            answer = await client.request(method, target, json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def call(self, path: str, body: Any = None, method: str = "POST", **headers: str) -> Any:
        """Make a call of the API; its answer is compared."""
        answer = await self.ask(method, path, body, **headers)
        self.see(path, answer)
        return answer

    async def read(self, conn_id: str, since: str, until: str) -> None:
        """Poll from a position up to the item with this uuid; what is sent is compared."""
        items: list[Any] = []
        while until not in [item.get("uuid") for item in items]:
            sent = await self.ask("GET", f"/listen?conn_id={conn_id}&since={since}")
            # A shared engine may deliver some events later than others, in a further poll with a `resumed` of its own.
            items += [item for item in sent if item["type"] != "resumed" or not items]
            since = sent[-1]["position"]
        self.see("stream", items)

    async def open(self, conn_id: str) -> str:
        """Poll for the first time, and return the position."""
        sent = await self.ask("GET", f"/listen?conn_id={conn_id}&since=")
        self.see("opened", sent)
        position: str = sent[0]["position"]
        return position

    def see(self, what: str, answer: Any) -> None:
        self.answers.append(answer)
        self.seen.append((what, stable(answer)))

    async def look(self) -> None:
        """See what the admin pages and the traces show, with no reading that an earlier look has had a second ago."""
        panel = self._panel()
        for table in ("channels", "users", "connections"):
            self.see(table, await panel.table(table, PageRequest()))
            self.see(table, await panel.table(table, PageRequest("shop")))
        for kind, name in (("channel", "room"), ("user", "ann"), ("connection", "c-ann")):
            self.see(kind, await panel.detail(kind, name))
        self.see("endings", await panel.readings["endings"]())
        document = json.loads(b"".join(await panel.document()))
        shown = ("channels", "users", "total_connections", "total_channels", "unique_user_count")
        self.see("document", {key: document[key] for key in (*shown, "remembered_user_count")})
        self.see("traces", msgspec.to_builtins(self.tracer.listing()))
        for kind, name in (("user", "ann"), ("channel", "room"), ("conn_id", "c-ann")):
            document = msgspec.to_builtins(self.tracer.view(kind, name, 0))
            self.answers.append(document)
            facts = [note["fact"] for note in document["notes"] if note["fact"]["what"] in ACCEPTED]
            self.see("trace", sorted(str([stable(fact[key], key) for key in FACT]) for fact in facts))


def stable(value: Any, key: str = "") -> Any:
    """Return an answer without what differs from run to run."""
    match value:
        case dict():
            return {name: stable(each, name) for name, each in value.items()}
        case list() | tuple():
            return [stable(each, key) for each in value]
        case str() if key == "uuid":
            return value if value in UUIDS else "an id"
        case str() if key == "json":
            return FIELDS.findall(value)[:3]
    return "varies" if key in VARYING and value is not None else value


def message(text: str, uuid: str, channel: str | None = "room", user: str = "ann", **more: Any) -> Any:
    return {"user": user, "channel": channel, "message": {"text": text}, "uuid": uuid, **more}


def streams_of(node: Node, *apps: App) -> Streams:
    """Return the streams of a node with these applications, of which the first is the default one."""
    settings = StreamSettings(poll_timeout_s=3600, poll_gap_s=3600)
    return Streams(Services(Apps(*apps), node), settings, Policy())


async def script(world: World, text: str) -> AsyncIterator[None]:
    """Use all of an application; yields after each step."""
    state = {"user_state": {"mood": text}, "state_public_keys": ["mood"]}
    configs = {"channel_configs": {"room": ROOM | LISTS}}
    ann = {"username": "ann", "conn_id": "c-ann", "channels": ["room", "side"], **state, **configs}
    await world.call("/connect", ann)
    yield
    since = await world.open("c-ann")
    for kind, name in (("user", "ann"), ("channel", "room"), ("conn_id", "c-ann")):
        world.tracer.start(kind, name, 60)
    yield
    bob = {"username": "bob", "conn_id": "c-bob", "channels": ["room"]}
    bob_since = (await world.call("/connect", bob))["position"]
    yield
    await world.call("/message", [message(text, FIRST), message(text, SECOND, user="bob")])
    yield
    await world.call("/message", message(text, PRIVATE, None, pm_users=["ann"]))
    await world.call("/message", message(text, ONLY, pm_users=["bob"]))
    await world.call("/message", message(text, EXCLUDED, exclude_users=["bob"]))
    yield
    await world.call("/message", message(text, FIRST))
    for _ in range(2):
        keyed = {"user": "ann", "channel": "side", "message": text}
        await world.call("/message", keyed, **{"idempotency-key": "one key"})
    yield
    await world.call("/message", message(f"edited: {text}", FIRST), method="PATCH")
    await world.call("/message", message(text, SECOND), method="DELETE")
    yield
    await world.call("/user_state", {"user": "ann", "user_state": {"mood": f"changed: {text}"}})
    await world.call("/user_status", {"user": "bob", "status": 3})
    yield
    await world.call("/subscribe", {"conn_id": "c-ann", "channels": ["late"]})
    await world.call("/channel_config", {"late": {"store_history": True, "history_size": 3}})
    await world.call("/message", message(text, LATE, "late"))
    await world.call("/connect", ann | {"channels": ["room", "more"]})
    yield
    await world.call("/message", [message(text, STORED), message(text, END)])
    yield
    await world.read("c-ann", since, until=END)
    await world.read("c-bob", bob_since, until=END)
    yield
    await world.call("/info", method="GET")
    await world.call("/info", {"info": {"channels": ["room", "unknown"], "include_connections": True}})
    await world.call("/info", {"info": {"users_after": "ann", "exclude_channels": ["side"]}})
    await world.call("/info", {"channels": ["room"]})
    yield
    await world.look()
    yield
    await world.call("/unsubscribe", {"conn_id": "c-ann", "channels": ["side", "more"]})
    await world.read("c-ann", since, until=END)
    yield
    await world.call("/disconnect", {"conn_id": "c-ann"})
    if text == SHOP_TEXT:  # So the endings of one id differ between the applications.
        await world.call("/connect", ann)
        await world.call("/disconnect", {"conn_id": "c-ann"})
    yield
    await world.call("/message", message(text, LAST, user="bob"))
    await world.read("c-bob", bob_since, until=LAST)
    await world.call("/info", method="GET")
    await world.look()
    yield


async def in_turn(*scripts: AsyncIterator[None]) -> None:
    """Run scripts to their ends, one step of each after the other."""
    running = list(scripts)
    while running:
        for each in list(running):
            async for _ in each:
                break
            else:
                running.remove(each)


@asynccontextmanager
async def started(engine: str) -> AsyncIterator[Node]:
    node = build(Settings(secret="x", admin_secret="y", engine=engine, unattached_timeout_s=3600)).node
    await node.start()
    try:
        yield node
    finally:
        await node.close()


@pytest.fixture(params=["memory", "sqlite", pytest.param("redis", marks=pytest.mark.slow)])
def new_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Returns the option of an engine with no data in it."""
    numbers = iter(range(10))

    def new() -> str:
        if request.param == "sqlite":
            return f"sqlite:///{tmp_path}/{next(numbers)}.db"
        if request.param == "redis":
            server: RedisServer = request.getfixturevalue("redis")
            server.cli("FLUSHALL")
            return server.address
        return "memory"

    return new


def test_an_application_beside_another_is_served_as_alone(new_engine: Callable[[], str]) -> None:
    """Answers, streams, tables and traces are the same, and none has a text of the other, nor a key."""

    async def alone(text: str) -> list[Any]:
        async with started(new_engine()) as node:
            world = World(streams_of(node, App()), App())
            await in_turn(script(world, text))
            return world.seen

    async def together() -> tuple[World, World]:
        async with started(new_engine()) as node:
            streams = streams_of(node, App(), SHOP)
            default, shop = World(streams, App()), World(streams, SHOP)
            await in_turn(script(default, DEFAULT_TEXT), script(shop, SHOP_TEXT))
            return default, shop

    async def scenario() -> None:
        default, shop = await together()
        for world, text, foreign in ((default, DEFAULT_TEXT, SHOP_TEXT), (shop, SHOP_TEXT, DEFAULT_TEXT)):
            for mine, expected in zip(world.seen, await alone(text), strict=True):
                assert mine == expected
            shown = json.dumps(world.answers, ensure_ascii=False)
            assert foreign not in shown
            assert MARK not in shown

    asyncio.run(scenario())


def test_a_restart_keeps_applications_apart(tmp_path: Path) -> None:
    """What a store has of both is restored for each."""
    engine = f"sqlite:///{tmp_path}/both.db"

    async def describe(world: World) -> Any:
        return stable(await world.ask("GET", "/info"))

    async def scenario() -> None:
        both = (App(), SHOP)
        async with started(engine) as node:
            worlds = [World(streams_of(node, *both), app) for app in both]
            for world, text in zip(worlds, (DEFAULT_TEXT, SHOP_TEXT), strict=True):
                await world.ask("POST", "/channel_config", {"room": ROOM})
                await world.ask("POST", "/message", message(text, FIRST))
            before = [await describe(world) for world in worlds]
        async with started(engine) as node:
            after = [await describe(World(streams_of(node, *both), app)) for app in both]
        assert after == before
        histories = [each["channels"]["room"]["history"] for each in after]
        assert [[item["message"]["text"] for item in history] for history in histories] == [
            [DEFAULT_TEXT],
            [SHOP_TEXT],
        ]

    asyncio.run(scenario())


@pytest.mark.slow
def test_nodes_ask_each_other_about_connections_of_one_application(redis: RedisServer) -> None:
    """For a stream that opens elsewhere, a subscription, and an end: nothing happens to the other one of this id."""

    async def scenario() -> None:
        redis.cli("FLUSHALL")
        both = (App(), SHOP)
        async with started(redis.address) as first, started(redis.address) as second:
            default, shop = (World(streams_of(first, *both), app) for app in both)
            default_there, shop_there = (World(streams_of(second, *both), app) for app in both)
            ann = {"username": "ann", "conn_id": "c-ann", "channels": ["room"]}
            for world in (default, shop):
                await world.call("/connect", ann)
                since = await world.open("c-ann")
            await shop_there.open("c-ann")
            owners = (default, default_there, shop, shop_there)
            assert [bool(each.service.connection("c-ann")) for each in owners] == [True, False, False, True]
            side = {"conn_id": "c-ann", "channels": ["side"]}
            assert (await shop.call("/subscribe", side))["channels"] == ["room", "side"]
            assert (await default_there.call("/subscribe", side | {"channels": ["late"]}))["channels"] == [
                "late",
                "room",
            ]
            for world, text in ((default_there, DEFAULT_TEXT), (shop, SHOP_TEXT)):
                await world.ask("POST", "/message", message(text, END))
            await default.read("c-ann", since, until=END)
            await shop_there.read("c-ann", since, until=END)
            for world, foreign in ((default, SHOP_TEXT), (shop_there, DEFAULT_TEXT)):
                assert foreign not in json.dumps(world.answers)
            assert await shop.call("/disconnect", {"conn_id": "c-ann"}) is True
            assert [bool(each.service.connection("c-ann")) for each in owners] == [True, False, False, False]
            assert await default_there.call("/disconnect", {"conn_id": "c-ann"}) is True
            assert [bool(each.service.connection("c-ann")) for each in owners] == [False] * 4

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_new_connection_lies_in_the_shard_of_its_user(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any application: an id is chosen by its key, and so is the shard."""
    [place] = address.shard_addresses(redis.address)
    shards = 3
    places = [replace(place, prefix=prefix) for prefix in address.prefixes(shards)]
    monkeypatch.setattr(address, "shard_addresses", lambda _: places)

    async def scenario() -> None:
        redis.cli("FLUSHALL")
        async with started(redis.address) as node:
            for app in (App(), SHOP):
                service = Service(app, node)
                for name in map(str, range(10)):
                    opened = await service.connect(None, name, V07, {}, UserUpdate({}, {}))
                    keys = (app.key(opened.conn_id), app.key(name))
                    assert node.connection(keys[0]) is not None
                    assert len({shard_of(key, shards) for key in keys}) == 1

    asyncio.run(scenario())
