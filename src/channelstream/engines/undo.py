"""Taking back changes of state that could not be written. Undone from the last to the first, each finds what it left."""

from collections.abc import Callable, Sequence

from channelstream.core.registry import Registry
from channelstream.engines.base import Clock


def take_back_user(registry: Registry, name: str, clock: Clock, connected: bool) -> Callable[[], None]:
    """Return what makes a user as it is now.

    Args:
        connected: a connection is counted in as well, and has to be counted out.
    """
    known = registry.users.get(name)
    state = dict(known.state) if known else {}
    keys = known.public_keys if known else ()

    def undo() -> None:
        user = registry.users[name]
        if connected:
            registry.disconnect(user, clock.wall())
        if known is None and not user.connections:
            registry.forget_user(user)
            return
        user.state = state
        user.publish_keys(keys)

    return undo


def take_back_channels(registry: Registry, names: Sequence[str], clock: Clock) -> Callable[[], None]:
    """Return what gives channels the settings they have now, and forgets those that are not there yet."""
    known = {name: registry.channels[name].settings for name in names if name in registry.channels}

    def undo() -> None:
        for name in names:
            channel = registry.channels[name]
            if name in known:
                registry.settle(channel, known[name], clock.steady())
            elif not channel.connections:
                registry.forget_channel(channel)

    return undo
