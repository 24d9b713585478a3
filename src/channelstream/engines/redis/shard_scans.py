"""Reads the sets and hashes of a shard of any size, page by page, by commands: a script would read all of it in one step.

Redis serves no other caller while it makes a page.
"""

from collections.abc import AsyncIterator, Sequence

from channelstream.engines.redis.shard_client import ShardClient
from channelstream.engines.redis.shard_link import ShardLink
from channelstream.engines.redis.shard_state import NodeContext

SCANNED_AT_ONCE = 1000
"""Items in one page of a scan."""


class ShardScans:
    """What is known in one shard: its channels and users, who is in them, and the connections of this node."""

    def __init__(self, node: NodeContext, link: ShardLink, client: ShardClient) -> None:
        self._node = node
        self._link = link
        self._client = client

    async def counts(self) -> tuple[int, int]:
        """Return how many channels and users are known."""
        channels, users = [await self._client.command("SCARD", self._known(kind)) for kind in "cu"]
        return channels, users

    async def names(self, kind: str) -> list[str]:
        """Return all channels (c) or users (u), sorted."""

        async def scan() -> list[str]:
            # A scan may return a name twice.
            pages = self._pages("SSCAN", self._known(kind))
            return sorted({name.decode() async for page in pages for name in page})

        return await self._client.outlast_move(scan)

    def _known(self, kind: str) -> str:
        return f"{self._client.prefix}known:{kind}"

    async def fields(self, kind: str, name: str) -> dict[bytes, bytes]:
        """Return a hash: every field that it has during the whole scan."""

        async def scan() -> dict[bytes, bytes]:
            found: dict[bytes, bytes] = {}
            async for flat in self._pages("HSCAN", f"{self._client.prefix}{kind}:{name}"):
                found |= zip(flat[::2], flat[1::2], strict=True)
            return found

        return await self._client.outlast_move(scan)

    @property
    def _registered(self) -> str:
        return f"{self._client.prefix}nk:{self._node.name}"

    async def registered(self) -> AsyncIterator[list[str]]:
        """Yield the ids of the connections registered for this node, in batches. An id may come twice."""
        async for page in self._pages("SSCAN", self._registered):
            yield [conn_id.decode() for conn_id in page]

    async def unregistered(self, conn_ids: Sequence[str]) -> list[str]:
        """Return the connections among these that are not registered for this node."""
        known = await self._client.command_on(self._link.linked(), "SMISMEMBER", self._registered, *conn_ids)
        return [conn_id for conn_id, is_known in zip(conn_ids, known, strict=True) if not is_known]

    async def _pages(self, command: str, key: str) -> AsyncIterator[list[bytes]]:
        link = self._link.linked()
        cursor = b"0"
        while True:
            cursor, page = await self._client.command_on(link, command, key, cursor, "COUNT", SCANNED_AT_ONCE)
            yield page
            if cursor == b"0":
                return
