"""Takes back changes of state that could not be written.

Changes are undone from the last to the first, so each undo finds the state that its change left.
"""

from collections.abc import Callable, Sequence

from channelstream.core.channel import Channel, ChannelSettings
from channelstream.core.entry import Entry
from channelstream.core.registry import Registry
from channelstream.core.user import State
from channelstream.engines.base import Clock, moment

_Kept = tuple[list[Entry], int]
"""The entries of a log, and its floor."""


def public_state(registry: Registry, name: str) -> State:
    """Return the state that is announced when a user joins a channel, to compare it with that after a change."""
    user = registry.users.get(name)
    return user.public_state if user else {}


def undo_user(registry: Registry, name: str, clock: Clock, connected: bool) -> Callable[[], None]:
    """Return a function that restores a user to its current state.

    Args:
        connected: it also undoes the connection that is about to be registered.
    """
    known = registry.users.get(name)
    state = known.state if known else {}
    keys = known.public_keys if known else ()

    def undo() -> None:
        user = registry.users.get(name)
        if user is None:
            return  # It was forgotten meanwhile, since it was idle for too long.
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
    """Return a function that restores settings and entries of channels, and forgets channels that do not exist yet.

    Joining and leaving are not undone. So no connection may join or leave these channels until the write is decided
    (`unwritten.py`).

    Args:
        committed: returns the last committed offset. If it has grown, entries that the change trimmed are not
            restored, and the floor of the log reports the loss: one of them may have been deleted meanwhile.
    """
    before = committed()
    known = {name: _kept(registry.channels[name]) for name in names if name in registry.channels}

    def undo() -> None:
        for name in names:
            channel = registry.channels.get(name)
            if channel is None:
                continue  # It was forgotten meanwhile, since it was idle for too long.
            if name not in known:
                registry.forget_channel(channel)
                continue
            settings, log, history = known[name]
            registry.apply_settings(channel, settings, clock.steady())
            if committed() == before:
                channel.log.restore(*log)
                channel.history.restore(*history)

    return undo


def _kept(channel: Channel) -> tuple[ChannelSettings, _Kept, _Kept]:
    log, history = channel.log, channel.history
    return channel.settings, (list(log.entries), log.floor), (list(history.entries), history.floor)
