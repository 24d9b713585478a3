"""Reads who is in a channel, with their states, as each client is sent that joins as a member."""

from channelstream.engines.base import DirectoryReads, MembersAt
from channelstream.service.shared_reads import SharedReads


class MemberStates:
    """The members of channels, by the keys of these."""

    def __init__(self, directory: DirectoryReads, *, is_single: bool) -> None:
        """Create it for a directory.

        Args:
            is_single: no other node shares it. Then it is in this process, and to share a read would cost more than one.
        """
        self._directory = directory
        self._shared = None if is_single else SharedReads(directory.members_at)

    async def of(self, channel: str) -> MembersAt:
        """Return the users in a channel at all nodes, which callers do not change.

        Raises:
            Unavailable: the engine is out of reach.
        """
        return await (
            self._directory.members_at(channel) if self._shared is None else self._shared.of(channel)
        )
