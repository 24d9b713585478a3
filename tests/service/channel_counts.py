"""Who is in channels, as tests of seats ask for it."""

from typing import NamedTuple

from channelstream.apps.keys import name_of
from channelstream.core.user import State
from channelstream.service import Memberships


class Counts(NamedTuple):
    """How many users and connections are in a channel, at all nodes."""

    users: int
    connections: int


async def members_in(memberships: Memberships, channel: str) -> list[tuple[str, State]]:
    """Return the name and the public state of each member of a channel."""
    members, _ = await memberships.members(channel)
    return list(members.items())


async def occupied_in(memberships: Memberships) -> dict[str, Counts]:
    """Return the channels with a connection somewhere, by their names."""
    found = await memberships._service.channels(None, with_users=False)
    return {
        name_of(each.name): Counts(each.user_count, each.connections) for each in found if each.connections
    }
