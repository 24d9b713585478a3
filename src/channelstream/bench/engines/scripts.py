"""The longest script of each operation with large data. Redis serves no other client while a script runs."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from statistics import median

from msgspec.structs import replace

from channelstream.bench.engines.engine_nodes import PATIENT, EngineNode, engine_node, run_in_batches
from channelstream.bench.engines.sizes import Sizes
from channelstream.bench.engines.stores import Store, one_redis
from channelstream.bench.engines.table import Figures, Row, Table, significant
from channelstream.bench.progress import Progress
from channelstream.bench.redis_process import until
from channelstream.core.events import Event, Message, MessageDeleted, MessageEdited
from channelstream.core.registry_limits import Lifetimes
from channelstream.core.user import UserUpdate
from channelstream.engines.members import Member
from channelstream.engines.redis.address import shard_addresses
from channelstream.engines.redis.engine import RedisEngine
from channelstream.engines.redis.shard_state import RedisSettings
from channelstream.wire.channelstream import V07

CROWDED = "crowded"
"""The channel with the most members."""
KEPT_BYTES = 1000
"""Length of a small message."""
BIG_MESSAGES = 64
NAMED = 3000
"""Users in `pm_users` of a message in a channel."""
SLOW_US = "300"
"""Limit of the slow log. Redis also logs commands within scripts, and logging costs time."""
QUICK_LEASE_S = 1.0
SHOWN = {"store_history": True, "history_size": 1000}
TITLE = (
    "One Redis: what one operation of the engine has it run, at {members:,} members of a channel, {channels:,} channels of a"
    " connection, and messages of {big:,} bytes. Redis' own account of each script (`SLOWLOG`), and the processor time of"
    " the whole process, in all and for each script or page (`HSCAN`), which other work on the machine hardly lengthens."
)
_NOTHING = UserUpdate({}, {})

Work = Callable[[], Awaitable[object]]


class Log:
    """Reads the slow log and usage of Redis.

    Attributes:
        rows: the measurements, in order.
    """

    def __init__(self, store: Store, progress: Progress) -> None:
        self.rows: dict[str, Figures] = {}
        self.store = store
        [self._master] = store.masters
        self._progress = progress

    async def begin(self) -> None:
        """Switch the slow log on."""
        await self._master.command("CONFIG", "SET", "slowlog-log-slower-than", SLOW_US)
        await self._master.command("CONFIG", "SET", "slowlog-max-len", "100000")

    async def measure(self, name: str, work: Work, scans_within: bool = False) -> None:
        """Await the work, and record its cost.

        Args:
            scans_within: only the scripts themselves read pages.
        """
        self._progress.show(name)
        await self._master.command("SLOWLOG", "RESET")
        before = await self._master.used()
        await work()
        entries = await self._master.command("SLOWLOG", "GET", "-1")
        took_ms = [int(entry[2]) / 1000 for entry in entries if entry[3][0].upper() == b"EVALSHA"]
        used = await self._master.used() - before
        pages = 0 if scans_within else used.pages
        self.rows[name] = {
            "longest script, ms": max(took_ms, default=0.0),
            "median, ms": _median(took_ms, used.scripts),
            "scripts": used.scripts,
            "together, ms": used.busy_us / 1000,
            "pages": pages,
            "CPU of Redis, ms": used.cpu_us / 1000,
            "of each, ms": used.cpu_us / 1000 / max(1, used.scripts + pages),
        }

    @property
    def table(self) -> list[Row]:
        return [Row(name, [significant(each) for each in row.values()]) for name, row in self.rows.items()]


async def scripts(sizes: Sizes, progress: Progress) -> list[Table]:
    """Measure each operation once: its longest script depends on the amount of data, and varies little."""
    async with AsyncExitStack() as stack:
        progress.begin("scripts")
        store = await stack.enter_async_context(one_redis())
        node = await stack.enter_async_context(engine_node(store))
        log = Log(store, progress)
        await log.begin()
        for part in (
            _many_channels,
            _state,
            _states,
            _histories,
            _big_messages,
            _many_users,
            _forms,
            _dead_node,
            _crowd,
        ):
            await part(node, sizes, log)
    title = TITLE.format(members=sizes.members[-1], channels=sizes.channels, big=sizes.big_bytes)
    return [Table("scripts", title, list(next(iter(log.rows.values()))), log.table)]


def _median(took_ms: Sequence[float], scripts: int) -> float:
    """Return the median time of scripts, of which the slow log has those above its limit only."""
    unlogged = [int(SLOW_US) / 1000] * max(0, scripts - len(took_ms))
    return median([*took_ms, *unlogged] or [0.0])


async def _many_channels(node: EngineNode, sizes: Sizes, log: Log) -> None:
    """Measure a connection in very many channels that announce presence."""
    engine, count = node.engine, sizes.channels
    names = [f"many-{number}" for number in range(count)]
    [member] = await node.register(["collector"])
    settings = {"notify_presence": True, "notify_state": True}
    await log.measure(f"join {count:,} channels", lambda: engine.join(member, dict.fromkeys(names, settings)))
    node.receiver.joined[member.conn_id] = names
    await log.measure(
        f"register a connection with {count:,} channels again",
        lambda: engine.cluster.confirm_ownership(member.conn_id),
    )
    await log.measure(
        f"configure {count:,} channels", lambda: engine.configure({name: {"log_events": 5} for name in names})
    )
    await log.measure(f"operation `channels` for {count:,} channels", lambda: engine.channels(names))
    await log.measure(
        f"operation `users` for a user in {count:,} channels", lambda: engine.users([member.user])
    )
    change = UserUpdate({"mood": "fine"}, {}, ["mood"])
    await log.measure(
        f"announce a user state of one key in {count:,} channels",
        lambda: engine.update_user(member.user, change),
        scans_within=True,
    )
    await log.measure(
        f"replay of {count:,} channels", lambda: engine.replay(member.user, dict.fromkeys(names, 0), 256)
    )

    async def nothing_to_leave() -> None:
        return

    await log.measure(
        f"claim a connection with {count:,} channels",
        lambda: engine.cluster.claim(member.conn_id, orphan=False, request_release=nothing_to_leave),
    )
    await log.measure(f"leave {count:,} channels", lambda: engine.leave(member, names))
    await engine.join(member, dict.fromkeys(names, settings))
    node.receiver.joined.pop(member.conn_id)
    del node.receiver.members[member.conn_id]
    await log.measure(
        f"disconnect a connection with {count:,} channels", lambda: engine.disconnect(member, names)
    )


async def _state(node: EngineNode, sizes: Sizes, log: Log) -> None:
    """Measure a user with a big public state in a thousand channels that announce it."""
    engine = node.engine
    names = [f"state-{number}" for number in range(sizes.channels // 10)]
    [member] = await node.register(["stateful"])
    await engine.join(member, {name: {"notify_state": True} for name in names})
    keys = [f"key-{number}" for number in range(200)]
    await engine.update_user(member.user, UserUpdate(dict.fromkeys(keys, "x"), {}, keys))
    await log.measure(
        f"announce a change of one key in {len(names):,} channels; the user state has 200 keys",
        lambda: engine.update_user(member.user, UserUpdate({keys[0]: "y"}, {})),
        scans_within=True,
    )
    big = dict.fromkeys(keys[:60], "y" * KEPT_BYTES)
    await log.measure(
        f"announce a change of all 60 keys of 1 KB in {len(names):,} channels",
        lambda: engine.update_user(member.user, UserUpdate(big, {})),
        scans_within=True,
    )
    del node.receiver.members[member.conn_id]
    await engine.disconnect(member, names)


async def _states(node: EngineNode, sizes: Sizes, log: Log) -> None:
    """Measure a channel whose members have states of maximal size, and one with the longest list of users."""
    engine, count = node.engine, sizes.channels // 10
    members = await node.register([f"big-{number}" for number in range(count)])
    await node.join(members, "states", {})
    big = dict.fromkeys([f"key-{number}" for number in range(64)], "y" * KEPT_BYTES)
    await run_in_batches([engine.update_user(member.user, UserUpdate(big, {})) for member in members])
    names = {member.user: "states" for member in members}
    await log.measure(
        f"operation `states` for {count:,} users, each with a state of 64 KB", lambda: engine.states(names)
    )
    listed = await node.register([f"listed-{number}" for number in range(count - 1)])
    await node.join(listed, "lists", {"notify_presence": True})
    keys = dict.fromkeys([f"key-{number}" for number in range(20)], 1)
    await run_in_batches([engine.update_user(each.user, UserUpdate(keys, {}, list(keys))) for each in listed])
    await engine.configure({"lists": {"broadcast_presence_with_user_lists": True}})
    await log.measure(
        f"join a channel with user lists and {count - 1:,} users, whose states have 20 keys each",
        lambda: engine.join(members[0], {"lists": {}}),
    )
    node.receiver.joined[members[0].conn_id] = ["states", "lists"]


async def _histories(node: EngineNode, sizes: Sizes, log: Log) -> None:
    """Measure channels with full logs and histories, and their collection when they are idle."""
    engine = node.engine
    names = [f"shown-{number}" for number in range(sizes.histories)]
    await engine.configure(dict.fromkeys(names, SHOWN))
    for name in names:
        for start in range(0, 1000, 250):
            await engine.publish(
                [_message(f"{name}-{start + number}", name, KEPT_BYTES) for number in range(250)]
            )
    await log.measure(
        f"operation `channels` for {len(names)} channels, each with 1,000 messages in its history",
        lambda: engine.channels(names),
    )
    starts = dict.fromkeys(names, 0)
    await log.measure(
        f"replay of {len(names)} logs, each with 1,000 events", lambda: engine.replay("nobody", starts, 256)
    )
    await log.measure(
        "publish a list of 200 messages",
        lambda: engine.publish([_message(f"l-{n}", names[0], 100) for n in range(200)]),
    )
    await log.measure(
        "configure a channel to keep 1 of its 1,000 messages",
        lambda: engine.configure({names[1]: {"log_events": 1, "history_size": 1}}),
    )
    async with engine_node(log.store, lifetimes=Lifetimes(0, 0.001)) as impatient:
        await log.measure(
            f"forget (collect) idle channels, {len(names)} of them with 1,000 messages in the history",
            impatient.engine.collect,
        )


async def _big_messages(node: EngineNode, sizes: Sizes, log: Log) -> None:
    engine, name, size_mb = node.engine, "big", f"{sizes.big_bytes / 1e6:.3g}"
    await engine.configure({name: {"store_history": True, "history_size": 10, "log_events": BIG_MESSAGES}})
    events: list[Event] = [
        _message(f"big-{number}", name, sizes.big_bytes) for number in range(BIG_MESSAGES + 4)
    ]

    async def publish() -> None:
        for event in events:
            await engine.publish([event])

    await log.measure(f"publish {len(events)} messages of {size_mb} MB, which the history shows", publish)
    await log.measure("publish the last of them again", lambda: engine.publish([events[-1]]))
    big = b'"%b"' % (b"y" * sizes.big_bytes)
    edit = MessageEdited(uuid=events[-1].uuid, channel=name, edited="t", payload=big)
    await log.measure("edit this message", lambda: engine.publish([edit]))
    await log.measure(
        "delete this message", lambda: engine.publish([MessageDeleted(uuid=events[-1].uuid, channel=name)])
    )
    await log.measure(f"replay of {BIG_MESSAGES} messages of {size_mb} MB", lambda: _replay_all(engine, name))
    await log.measure(
        f"operation `channels` for one channel, with 10 messages of {size_mb} MB in its history",
        lambda: engine.channels([name]),
    )
    await log.measure(
        f"configure a channel to keep none of its {BIG_MESSAGES} messages of {size_mb} MB",
        lambda: engine.configure({name: {"log_events": 0, "history_size": 0}}),
    )


async def _replay_all(engine: RedisEngine, name: str) -> None:
    at = -1
    first = await engine.replay("nobody", {name: engine.position.offsets[0]}, 0)
    at, head = first.head[0] - BIG_MESSAGES, first.head[0]
    while at < head:
        at = (await engine.replay("nobody", {name: at}, 256)).read_to[0]


async def _many_users(node: EngineNode, sizes: Sizes, log: Log) -> None:
    """Measure a private message to very many users."""
    engine = node.engine
    users = frozenset(f"addressee-{number}" for number in range(sizes.channels))
    await run_in_batches(
        [engine.connect(Member(f"of-{user}", user, V07), _NOTHING) for user in sorted(users)]
    )
    private = Message(uuid="private", user="app", payload=b'"hi"', timestamp="t", only=users)
    await log.measure(f"publish a private message to {len(users):,} users", lambda: engine.publish([private]))
    some = frozenset(sorted(users)[:100])
    large = Message(uuid="large", user="app", payload=b'"%b"' % (b"x" * 250_000), timestamp="t", only=some)
    await log.measure("publish a private message of 250 KB to 100 users", lambda: engine.publish([large]))
    deleted = MessageDeleted(uuid="private", only=users)
    await log.measure(f"delete a private message for {len(users):,} users", lambda: engine.publish([deleted]))


async def _forms(node: EngineNode, sizes: Sizes, log: Log) -> None:
    """Measure a message that is edited for very many users one by one, and a message with the most `pm_users`."""
    engine, count = node.engine, sizes.channels // 10
    await engine.configure({"forms": {"log_events": 10 * count}})
    await engine.publish([_message("formed", "forms", 100)])
    edits: list[Event] = [
        MessageEdited(
            uuid="formed", channel="forms", edited="t", payload=b"1", only=frozenset({f"reader-{number}"})
        )
        for number in range(count)
    ]
    await log.measure(
        f"edit a message for {count:,} users of a channel, one by one", lambda: engine.publish(edits)
    )
    deleted = MessageDeleted(uuid="formed", channel="forms")
    await log.measure("delete this message for all these users", lambda: engine.publish([deleted]))
    names = frozenset(f"a-reader-of-{number:08}" for number in range(NAMED))
    named = replace(_message("named", "forms", 100), only=names)
    await log.measure(f"publish a message to {NAMED:,} users of a channel", lambda: engine.publish([named]))
    edit = MessageEdited(uuid="named", channel="forms", edited="t", payload=b"1", only=names)
    await log.measure("edit this message for all these users", lambda: engine.publish([edit]))


async def _crowd(node: EngineNode, sizes: Sizes, log: Log) -> None:
    engine, count = node.engine, sizes.members[-1]
    for start in range(0, count, 10_000):
        members = await node.register(
            [f"crowd-{number}" for number in range(start, min(start + 10_000, count))]
        )
        await node.join(members, CROWDED, {})
    await log.measure(
        f"operation `members` for a channel with {count:,} connections",
        lambda: engine.cluster.members(CROWDED),
    )
    await log.measure(
        f"operation `channels` for one channel with {count:,} users", lambda: engine.channels([CROWDED])
    )
    await log.measure(f"operation `users` for {count:,} users", lambda: engine.users(None))
    lists = {"notify_presence": True, "broadcast_presence_with_user_lists": True}
    await engine.configure({CROWDED: lists})
    await log.measure(
        f"leave a channel with user lists and {count:,} users", lambda: engine.leave(members[0], [CROWDED])
    )
    await engine.configure({CROWDED: {"notify_presence": False}})


async def _dead_node(node: EngineNode, sizes: Sizes, log: Log) -> None:
    """Measure the death of a node whose connections are in ten channels each."""
    count = sizes.channels // 10
    before = await _ids(node)
    async with engine_node(log.store) as dying:
        members = await dying.register([f"dying-{number}" for number in range(count)])
        channels = {f"dying-{number}": {"notify_presence": True} for number in range(10)}
        await run_in_batches([dying.engine.join(member, channels) for member in members])
        [dead] = await _ids(dying) - before
    async with engine_node(log.store, RedisSettings(60.0, QUICK_LEASE_S)) as living:

        async def reaped() -> None:
            await log.store.masters[0].command(
                "DEL", f"{shard_addresses(log.store.address)[0].prefix}nl:{dead}"
            )
            await until(lambda: _is_gone(living, dead), PATIENT.timeout_s, "the dead node was not buried")

        await log.measure(f"unregister (reap) {count:,} connections of a dead node", reaped)


async def _ids(node: EngineNode) -> set[str]:
    return {each.id for each in await node.engine.cluster.nodes()}


async def _is_gone(node: EngineNode, dead: str) -> bool:
    return dead not in await _ids(node)


def _message(uuid: str, channel: str, size: int) -> Message:
    return Message(uuid=uuid, channel=channel, user="app", payload=b'"%b"' % (b"x" * size), timestamp="t")
