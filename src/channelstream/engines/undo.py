"""Taking back changes of state that could not be written. Undone from the last to the first, each finds what it left."""

from collections.abc import Callable, Sequence

from channelstream.core.channel import Channel, ChannelSettings
from channelstream.core.log import Entry
from channelstream.core.registry import Registry
from channelstream.engines.base import Clock, moment

_Kept = tuple[list[Entry], int]
"""What a log held, and its floor."""


def undo_user(registry: Registry, name: str, clock: Clock, connected: bool) -> Callable[[], None]:
    """Return what makes a user as it is now.

    Args:
        connected: a connection is counted in as well, and has to be counted out.
    """
    known = registry.users.get(name)
    state = dict(known.state) if known else {}
    keys = known.public_keys if known else ()

    def undo() -> None:
        user = registry.users.get(name)
        if user is None:
            return  # It was idle for too long meanwhile.
        if connected:
            registry.disconnect(user, moment(clock))
        if known is None and not user.connections:
            registry.forget_user(user)
            return
        user.restore(state, keys)

    return undo


def undo_channels(
    registry: Registry, names: Sequence[str], clock: Clock, committed: Callable[[], int]
) -> Callable[[], None]:
    """Return what gives channels the settings and entries they have now, and forgets those that are not there yet.

    Until it is called, or is known never to be, nobody may join or leave them: that is not taken back.

    Args:
        recorded: returns the last number that counts. When it has grown, a log that had to shrink stays shrunk, as its
            floor tells: a message that was deleted meanwhile must not come back.
    """
    before = committed()
    known = {name: _kept(registry.channels[name]) for name in names if name in registry.channels}

    def undo() -> None:
        for name in names:
            channel = registry.channels.get(name)
            if channel is None:
                continue  # It was idle for too long meanwhile.
            if name in known:
                settings, *logs = known[name]
                registry.apply_settings(channel, settings, clock.steady())
                if committed() == before:
                    for log, (entries, floor) in zip((channel.log, channel.history), logs, strict=True):
                        log.restore(entries, floor)
            else:
                registry.forget_channel(channel)

    return undo


def _kept(channel: Channel) -> tuple[ChannelSettings, _Kept, _Kept]:
    log, history = channel.log, channel.history
    return channel.settings, (list(log.entries), log.floor), (list(history.entries), history.floor)
