"""Reads who is in a channel, with their states, as each client is sent that joins as a member."""

from channelstream.core.user import User
from channelstream.engines.base import Directory
from channelstream.service.shared_reads import SharedReads
from channelstream.slices import in_turns

SLICE = 1_000
"""Members whose states are asked for at once."""


class MemberStates:
    """The members of channels, by the keys of these."""

    def __init__(self, directory: Directory, *, is_single: bool) -> None:
        """Create it for a directory.

        Args:
            is_single: no other node shares it. Then it is in this process, and to share a read would cost more than one.
        """
        self._directory = directory
        self._shared = None if is_single else SharedReads(self._read)

    async def of(self, channel: str) -> list[User]:
        """Return the users in a channel at all nodes, of whom only the state is valid; callers do not change the list.

        Raises:
            Unavailable: the engine is out of reach.
        """
        return await (self._read(channel) if self._shared is None else self._shared.of(channel))

    async def _read(self, channel: str) -> list[User]:
        found = await self._directory.channels([channel])
        users: list[User] = []
        async for part in in_turns(list(found[0].users) if found else [], SLICE):
            users += await self._directory.states(dict.fromkeys(part, channel))
        return users
