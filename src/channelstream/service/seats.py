"""The seats of this node's connections: taken and given up (`core/seat.py`).

A seat is registered as a connection is (`local.py`), under the lock of its own id, and inside the lock of its holder. So a
holder that ends meanwhile, which needs no lock, ends the seat when the operation on it is done.
"""

from collections.abc import Mapping
from functools import partial
from itertools import count
from typing import Any

from channelstream.close_codes import CloseCode
from channelstream.core.connection import Connection
from channelstream.core.hub import Hub
from channelstream.core.position import draw_in_shard
from channelstream.core.seat import Seat, seat_id
from channelstream.core.user import UserUpdate
from channelstream.errors import Unavailable
from channelstream.service.limits import NodeLimits
from channelstream.service.local import LocalConnections, check_local


class Seats:
    """Takes seats for connections of this node, and gives them up."""

    def __init__(self, hub: Hub, local: LocalConnections, limits: NodeLimits) -> None:
        self._hub = hub
        self._local = local
        self._limits = limits
        self._numbers = count(1)

    async def take(
        self,
        holder: Connection,
        channel: str,
        user: str,
        update: UserUpdate,
        settings: Mapping[str, Any],
    ) -> bool:
        """Make a connection a member of a channel as another user; return False if it has a seat there already.

        Args:
            user: that only connections in this channel have.
            update: of the state of this user.
            settings: what the channel gets if it is new.

        Raises:
            Invalid: it would have too many channels.
            TooManyRequests: the application has no room for more channels here.
            Moved: the connection has left this node.
        """
        async with self._local.locks.of(holder.id):
            check_local(holder)
            if channel in (holder.seats or {}):
                return False
            self._limits.check_channel_count(len(holder.readable) + 1)
            self._local.room.check_channels(holder.id, [channel])
            offsets = self._hub.offsets
            drawn = draw_in_shard(partial(self._next_id, holder), channel, len(offsets))
            seat = Seat(drawn, user, holder, channel, offsets)
            async with self._local.locks.of(seat.id):
                await self._register(seat, update, settings)
            check_local(holder)
        return True

    async def _register(self, seat: Seat, update: UserUpdate, settings: Mapping[str, Any]) -> None:
        """Register a seat in its channel; if that fails, the node forgets it."""
        self._hub.add_seat(seat)
        if await self._local.register(seat, update, {seat.channel: settings}, None) is None:
            raise Unavailable("The id of a seat is taken; try again.")

    async def give_up(self, holder: Connection, channel: str) -> bool:
        """Let a connection leave a channel where it has a seat; return False if it has none there."""
        async with self._local.locks.of(holder.id):
            seat = (holder.seats or {}).get(channel)
            if seat is None:
                return False
            async with self._local.locks.of(seat.id):
                await self._local.disconnect(seat, CloseCode.NORMAL, "left")
        return True

    def _next_id(self, holder: Connection) -> str:
        """Return an id that no seat here has had."""
        drawn = seat_id(holder.id, next(self._numbers))
        while drawn in self._hub.seats:  # It came from another process, which has counted as well.
            drawn = seat_id(holder.id, next(self._numbers))
        return drawn
