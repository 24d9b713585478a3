"""The links of a node with all shards: opened together, closed, and opened again."""

from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress

from channelstream.engines.redis.lease_manager import LeaseManager
from channelstream.engines.redis.restoring import Restoring
from channelstream.engines.redis.shards import Shards, gather_all
from channelstream.errors import ConfigError, Unavailable


class Links:
    """The links, and the lease managers that keep them."""

    def __init__(self, shards: Shards, restoring: Restoring, lease_managers: Sequence[LeaseManager]) -> None:
        self.lease_managers = lease_managers
        self._shards = shards
        self._restoring = restoring
        self._are_closed = False

    async def open(self, after_gap: bool = False) -> None:
        """Open all links, or none.

        Args:
            after_gap: the node had links before, in this process or in another one.

        Raises:
            ConfigError: a shard cannot be reached, or cannot be used.
        """
        if after_gap:
            await self._suspect()
        await self._establish()
        self._start(after_gap)

    async def reopen(self) -> None:
        """Open the links after `close`; if a shard is out of reach, its lease manager does it later."""
        if not self._are_closed:
            return
        self._are_closed = False
        await self._suspect()
        with suppress(ConfigError):
            await self._establish()
        self._start(after_gap=True)

    async def close(self) -> None:
        self._are_closed = True
        for lease_manager in self.lease_managers:
            await lease_manager.stop()
        await self._close_shards()

    def _start(self, after_gap: bool) -> None:
        for lease_manager in self.lease_managers:
            lease_manager.start(after_gap)

    async def _suspect(self) -> None:
        """Another node may have claimed any connection while no link was there."""
        for shard in self._shards:
            await self._restoring.suspect(shard)

    async def _establish(self) -> None:
        async with AsyncExitStack() as refused:
            refused.push_async_callback(self._close_shards)
            try:
                # The first shard refuses a wrong number of shards, before anything is written to the others.
                first, *others = self._shards
                await first.establish()
                await gather_all(shard.establish() for shard in others)
            except Unavailable as error:
                raise ConfigError(f"engine: {error.message}") from error
            refused.pop_all()

    async def _close_shards(self) -> None:
        for shard in self._shards:
            await shard.link.close()
