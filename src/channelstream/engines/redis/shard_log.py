"""Publishing in one shard, and reading its logs and histories."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from channelstream.core.events import Event
from channelstream.engines.redis import event_text
from channelstream.engines.redis.address import ShardAddress
from channelstream.engines.redis.link import Command, Link
from channelstream.engines.redis.shard_client import CHUNK, ShardClient
from channelstream.engines.redis.shard_link import ShardLink
from channelstream.engines.redis.shard_state import PAYLOAD_PREFIX, NodeContext

FIELDS_WITH_TOKEN = 5
"""Number of parts of an answered entry whose payload lies beside the log: the last two are its key and its token."""
DUPLICATE_WITH_TOKEN = 4
"""Number of parts of the answer to a duplicate message whose payload lies beside the log: the last two are likewise."""
READ_AT_ONCE = 200
"""Entries read by one call; the script stops earlier at 1 MiB, or at 256 KiB of small entries."""

Logs = list[tuple[str, str, int]]
"""Logs to read: kind (c for a channel, u for a user), name, and the offset to read after."""
Read = tuple[int, int, list[int], list[list[bytes]]]
"""The result of a read: head, offset up to which the result is complete, indexes (from 1) of lost logs, entries in order."""


class ShardLog:
    """The logs and histories of one shard."""

    def __init__(
        self, address: ShardAddress, node: NodeContext, link: ShardLink, client: ShardClient
    ) -> None:
        self._address = address
        self._node = node
        self._link = link
        self._client = client

    async def publish(self, events: Sequence[Event]) -> list[list[bytes]]:
        """Publish as many events as fit, from the first on; the caller publishes those without an answer by another call.

        An event with a big payload is published alone.
        """
        token = self._node.new_id()
        payload = event_text.big_payload(events[0])
        encoded = [event_text.write_event(event, token) for event in events]
        first: list[Command] = []
        if payload is not None:
            commands = partial(self._payload_commands, encoded[0], token, payload)
            first = await self._client.outlast_move(commands, arguments={"payload": payload})
        answers: list[list[bytes]] = await self._client.call("publish", events=encoded, first=first)
        return [
            await self._with_payload(event, answer) for event, answer in zip(events, answers, strict=False)
        ]

    async def _with_payload(self, event: Event, answer: list[bytes]) -> list[bytes]:
        """Return the answer to a duplicate message, with its payload if that lies beside the log."""
        if len(answer) < DUPLICATE_WITH_TOKEN:
            return answer
        payload = await self._client.outlast_move(partial(self._payload, *answer[2:]))
        if payload is None:  # Superseded between the two commands, so the answer has changed.
            return (await self.publish([event]))[0]
        return [*answer[:2], payload]

    async def _payload(self, key: bytes, token: bytes) -> bytes | None:
        found: bytes | None = await self._client.command_on(self._link.linked(), "HGET", key, token)
        return found

    async def _payload_commands(self, fields: dict[str, Any], token: str, payload: bytes) -> list[Command]:
        """Return the commands that write a payload to every place where the script may keep it, and publish it."""
        prefix, channel = self._address.prefix, fields["channel"]
        names = [f"c:{channel}"] if channel else [f"u:{user}" for user in fields["only"]]
        kept = [f"{kind}p:{name}" for kind, _, name in (each.partition(":") for each in names)]
        if channel and not fields["only"] and not fields["no_history"]:
            kept.append(f"hp:{channel}")
        publish_command = self._link.linked().publish_command
        data = b"%b%b %b" % (PAYLOAD_PREFIX, token.encode(), payload)
        return [
            *(("HSET", prefix + name, token, payload) for name in kept),
            *((publish_command, f"{prefix}#{name}", data) for name in names),
        ]

    async def history(self, channel: str, after: int = 0) -> list[list[bytes]]:
        """Read a visible history after an offset, with the payloads that lie beside it.

        The payloads of one answer are fetched before the next call, so that never more than these are in flight.
        """
        found: list[list[bytes]] = []
        more: int | None = after
        while more is not None:
            batch, next_after = await self._client.call("history", channel=channel, after=more)
            if await self._client.outlast_move(partial(self._add_linked_payloads, batch)):
                found += batch
                more = None if next_after is None else int(next_after)
        return found

    async def history_from(self, channel: str, first: list[list[bytes]], after: int) -> list[list[bytes]]:
        """Complete a visible history whose first entries were read without the payloads that lie beside the log.

        Args:
            after: the offset after which the rest follows; 0 if there is none.
        """
        if not await self._client.outlast_move(partial(self._add_linked_payloads, first)):
            return await self.history(channel)
        return first + (await self.history(channel, after) if after else [])

    async def replay(self, logs: Logs, limit: int) -> Read:
        """Read logs, each entry once. When it returns, the receiver was delivered everything up to the returned head.

        Very many logs are read by several calls. The head is that of the first call, and no call reads further than
        those before it.

        Raises:
            Unavailable: among others, a new log has begun between two calls: offsets of the former one mean nothing in it.
        """
        epoch = self._client.epoch
        head, read_to, lost, entries = await self._client.outlast_move(
            partial(self._replay_marked, logs[:CHUNK], limit)
        )
        for start in range(CHUNK, len(logs), CHUNK):
            batch = logs[start : start + CHUNK]
            _, read_to, more_lost, more = await self._client.outlast_move(
                partial(self._read_linked, batch, limit, read_to), epoch=epoch
            )
            lost += [start + number for number in more_lost]
            entries += more
        if len(logs) > CHUNK:
            entries = sorted(
                (each for each in entries if int(each[0]) <= read_to), key=lambda each: int(each[0])
            )
            if len(entries) > limit:
                read_to = int(entries[limit][0]) - 1
        return head, read_to, lost, entries[:limit]

    async def _replay_marked(self, logs: Logs, limit: int) -> Read:
        link = self._link.linked()
        until_s = link.deadline_s
        async with self._client.replies.expect() as (token, mark):
            read = await self.read(link, logs, limit, mark=token, node=self._node.name, until_s=until_s)
            await link.subscription.await_mark(mark, until_s)
        return read

    async def _read_linked(self, logs: Logs, limit: int, read_to: int) -> Read:
        return await self.read(self._link.linked(), logs, limit, read_to)

    async def read(
        self, link: Link, logs: Logs, limit: int, read_to: int | None = None, **options: Any
    ) -> Read:
        bound = {} if read_to is None else {"upto": read_to}
        head, read, lost, entries = await self._client.call_on(
            link, "replay", starts=logs, limit=min(limit, READ_AT_ONCE), **bound, **options
        )
        if await self._add_payloads(link, entries):
            return int(head), int(read), lost, entries
        _, read_to, lost, entries = await self.read(link, logs, limit, int(read))
        return int(head), read_to, lost, entries

    async def _add_linked_payloads(self, entries: list[list[bytes]]) -> bool:
        return await self._add_payloads(self._link.linked(), entries)

    async def _add_payloads(self, link: Link, entries: list[list[bytes]]) -> bool:
        """Fetch the payloads beside the log; return false if one was superseded meanwhile: all must be read again."""
        with_token = [entry for entry in entries if len(entry) == FIELDS_WITH_TOKEN]
        payloads = await asyncio.gather(
            *(self._client.command_on(link, "HGET", *entry[-2:]) for entry in with_token)
        )
        if None in payloads:
            return False
        for entry, payload in zip(with_token, payloads, strict=True):
            entry[-2:] = [payload]
        return True
