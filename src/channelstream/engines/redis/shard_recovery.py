"""A new link with one shard after an outage, and the events that were missed.

- **Catching up comes before live messages.** `establish` subscribes first, then reads the log, and only then passes on
  the messages that arrived meanwhile, which the link has buffered. If it read the log before it subscribed, an event
  published between the two steps would be missed. Events that arrive twice are recognized by their offset.
- **All logs advance together.** The log of a channel is read in pieces, and a position has one offset for all channels
  of the shard. So the catch-up delivers events only up to the offset up to which every log has been read. If it read
  one channel after the other to its end, it would move the offset past unread events of the others, or need all events
  in memory.
- **A position that was too high ends the epoch.** If a gap is found at an offset up to that of the position, clients may
  already have a position after the missed event. No later read can repair that. So the node asks for a new epoch: all
  positions of the shard become invalid, and its channels are reported as lost to the clients. That is rare, and the
  alternative is silent loss.
- **Another Redis is another log.** After a restart or a failover the data may lack acknowledged events. The script
  compares the run id and begins a new epoch (`hello` in `lua/64_node_operations.lua`).
- **A moved slot is the same log.** The master of a cluster may give the shard's slot to another one (`slot_move.py`).
"""

import asyncio
import logging

from redis.exceptions import AuthenticationError, MovedError, RedisError
from redis.exceptions import ConnectionError as Lost

from channelstream.engines.redis.address import ShardAddress
from channelstream.engines.redis.delivery import Delivery
from channelstream.engines.redis.link import Link
from channelstream.engines.redis.link_state import NOT_REDIS, OUT_OF_REACH, UNREADABLE
from channelstream.engines.redis.link_subscription import SUBSCRIBE_AT_ONCE
from channelstream.engines.redis.servers import REFUSALS
from channelstream.engines.redis.shard_client import CHUNK, ShardClient
from channelstream.engines.redis.shard_link import ShardLink
from channelstream.engines.redis.shard_log import READ_AT_ONCE, Logs, ShardLog
from channelstream.engines.redis.shard_state import NodeContext, ShardState
from channelstream.engines.redis.shard_subscriber import ShardSubscriber
from channelstream.errors import ConfigError, Unavailable

CATCH_UP_AT_ONCE = 2000
"""Entries read in one round of catching up, of all channels and users together."""
DELIVERED_AT_ONCE = 200
"""Entries delivered in one turn of the event loop."""

logger = logging.getLogger(__name__)


class ShardRecovery:
    """Establishes links with one shard."""

    def __init__(
        self,
        address: ShardAddress,
        node: NodeContext,
        state: ShardState,
        link: ShardLink,
        client: ShardClient,
        log: ShardLog,
        subscriber: ShardSubscriber,
        delivery: Delivery,
    ) -> None:
        self._address = address
        self._node = node
        self._state = state
        self._link = link
        self._client = client
        self._log = log
        self._subscriber = subscriber
        self._delivery = delivery

    async def establish(self) -> None:
        """Open a new link in place of an older one, and deliver the events missed since then.

        Raises:
            Unavailable: Redis is out of reach, or failed meanwhile.
            ConfigError: Redis has no shard of this log.
        """
        await self._link.unlink()
        node = self._node
        link = Link(self._address, self._subscriber.on_message, node.settings.timeout_s, node.facts)
        try:
            await link.open()
            # The order matters: subscribe before the log is read, and pass on live messages only after that.
            await self._resubscribe(link)
            await self._hello(link)
            await link.subscription.listen()
        except BaseException as error:
            await link.close()
            self._link.note_failure(error)
            if isinstance(error, REFUSALS):
                raise self._start_error(error) from error
            if isinstance(error, Lost):
                raise Unavailable(OUT_OF_REACH) from error
            if isinstance(error, UNREADABLE) or link.reason == NOT_REDIS:
                logger.debug("%s: %s", self._state.label, NOT_REDIS, exc_info=error)
                raise Unavailable(f"{self._state.label} cannot be used: {NOT_REDIS}") from error
            raise
        self._link.use(link)

    async def _resubscribe(self, link: Link) -> None:
        """Subscribe to all channels again, in batches.

        Each has its own deadline, since a confirmed batch proves progress.
        """
        names = [f"#n:{self._node.name}", "#all", *self._subscriber.subscribed]
        for start in range(0, len(names), SUBSCRIBE_AT_ONCE):
            await link.subscription.subscribe(names[start : start + SUBSCRIBE_AT_ONCE])

    def _start_error(self, error: RedisError) -> ConfigError | Unavailable:
        kind, _, rest = str(error).partition(" ")
        if kind == "SHARD":
            return ConfigError(
                f"engine: the log in Redis has another number of shards than the {self._node.shards} of the address:"
                f" {rest}"
            )
        if kind == "LAYOUT":
            return ConfigError(
                f"engine: the data in Redis has format {rest}, that of another version of channelstream: stop all"
                " nodes, run FLUSHDB, and start them"
            )
        if isinstance(error, MovedError) and not self._address.in_cluster:
            return ConfigError(
                "engine: this Redis is a member of a cluster: write redis+cluster://host:port,host:port?shards=3"
            )
        if isinstance(error, AuthenticationError):
            return Unavailable(
                f"Redis refuses the login: {str(error).rstrip('.')}; check user and password in the option engine"
            )
        return Unavailable(f"Redis cannot be used now: {error}")

    async def _hello(self, link: Link) -> None:
        """Compare the epoch: catch up if it is the same log, or begin with the new one."""
        moved_from, up_ms = await self._former_master(link)
        epoch, offset, age_ms = await link.call(
            "",
            "",
            "hello",
            candidate=self._node.new_epoch(),
            run=link.run_id,
            moved_from=moved_from,
            up_ms=up_ms,
            known_epoch=self._state.epoch,
            known_seq=self._state.offset,
            distrust=self._state.needs_new_epoch,
            shard=f"{self._state.index + 1} of {self._node.shards}",
        )
        self._state.needs_new_epoch = False
        if epoch.decode() == self._state.epoch:
            await self._catch_up(link)
            return
        is_first = not self._state.epoch
        self._state.epoch, self._state.offset = epoch.decode(), int(offset)
        # Offsets of the former log prove nothing.
        self._subscriber.subscribed = dict.fromkeys(self._subscriber.subscribed, -1)
        if is_first:
            self._state.age_s = int(age_ms) / 1000
        else:
            logger.warning("the log in Redis was replaced: clients are sent that its channels are lost")
            self._delivery.log_replaced(self._state.index)

    async def _former_master(self, link: Link) -> tuple[str, int]:
        """Return the run id of the master that has given the slot to the present one, and the age of the present one.

        The run id is empty if the slot has not moved. The age is in ms, and 0 for a former replica: it may lack writes.
        """
        if not self._address.in_cluster:
            return "", 0
        run = await link.command("HGET", f"{self._address.prefix}log", "run")
        if run is None or run.decode() == link.run_id or not await self._address.has_moved(run.decode()):
            return "", 0
        was_replica = (await link.info("replication"))["second_repl_offset"] != "-1"
        uptime_s = int((await link.info("server"))["uptime_in_seconds"])
        return run.decode(), 0 if was_replica else 1000 * uptime_s

    async def _catch_up(self, link: Link) -> None:
        """Deliver the events published while the link was down, in offset order, round by round.

        Each round reads further in the logs that were read the least far, and delivers the events up to the offset that
        all logs have reached. The head is read first. Later events are in the buffer of the subscription.
        """
        starts = [
            (name[1], name[3:], max(self._state.offset, seen))
            for name, seen in self._subscriber.subscribed.items()
        ]
        head = int(await self._client.call_on(link, "head"))
        pieces = [starts[at : at + CHUNK] for at in range(0, len(starts), CHUNK)]
        unread = [(self._state.offset, piece) for piece in pieces if self._state.offset < head]
        found: dict[int, list[list[bytes]]] = {}
        while unread:
            behind = min(end for end, _ in unread)
            limit = min(READ_AT_ONCE, max(1, CATCH_UP_AT_ONCE // len(unread)))
            read = [
                await self._read_missed(link, batch, limit, found) if end == behind else (end, batch)
                for end, batch in unread
            ]
            unread = [(end, batch) for end, batch in read if end < head]
            await self._deliver_found(found, min((end for end, _ in unread), default=head))
        self._subscriber.advance(head)
        self._subscriber.mark_complete(list(self._subscriber.subscribed), head)

    async def _read_missed(
        self, link: Link, starts: Logs, limit: int, found: dict[int, list[list[bytes]]]
    ) -> tuple[int, Logs]:
        """Read logs into `found`, and report the lost ones; return the offset read to, and the logs to read further."""
        _, read_to, lost_numbers, entries = await self._log.read(link, starts, limit)
        for entry in entries:
            # One offset may have several forms: a private message may have been edited for some of its users.
            found.setdefault(int(entry[0]), []).append(entry)
        lost = {starts[number - 1][:2] for number in lost_numbers}
        if lost:
            self._delivery.lost(lost)
        rest = [
            (kind, name, max(offset, read_to)) for kind, name, offset in starts if (kind, name) not in lost
        ]
        return read_to, rest

    async def _deliver_found(self, found: dict[int, list[list[bytes]]], read_to: int) -> None:
        """Deliver the found entries up to an offset, all forms of one offset in one turn of the loop."""
        for number, offset in enumerate(sorted(offset for offset in found if offset <= read_to), start=1):
            for entry in found.pop(offset):
                self._subscriber.deliver(*entry)
            if number % DELIVERED_AT_ONCE == 0:
                await asyncio.sleep(0)
        self._subscriber.advance(read_to)
