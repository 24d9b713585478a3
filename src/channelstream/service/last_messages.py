"""The last messages of channels that keep them, of one application: for clients who subscribe later.

A last message is in the channel's history, so the log's order decides which it is, and it is bounded and outlives a restart
as histories do. A channel that has a longer history already keeps it. A channel without members is forgotten after
`gc_channels_after_s`.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from channelstream.apps.keys import name_of
from channelstream.core.events import Message
from channelstream.core.timestamps import stamp
from channelstream.service.memberships import ANNOUNCED
from channelstream.service.service import Service

KEEPS_LAST: Final[Mapping[str, Any]] = {"store_history": True, "history_size": 1}
"""The settings of a channel that keeps its last message."""


class KeptMessage(NamedTuple):
    """The last message of a channel.

    Attributes:
        offset: its place in the shard of the log.
        left_s: for how many seconds it is still kept.
    """

    message: Message
    shard: int
    offset: int
    left_s: float


class LastMessages:
    """Lets channels keep their last messages, and returns these. Channels are given by their names."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._key = service.app.key

    async def keep(self, channels: Iterable[str], announced: Collection[str] = ()) -> None:
        """Let channels keep their last message from now on, without members as well.

        Call it before the message is published; messages with `no_history` are not kept.

        Args:
            announced: those of the channels whose members have names of their own (`ANNOUNCED`): they may be new.

        Raises:
            Unavailable: the engine is out of reach.
        """
        names = list(dict.fromkeys(channels))
        found = await self._service.channels(names, with_users=False)
        kept = {each.name for each in found if each.settings.store_history and each.settings.history_size}
        wanted = {name: {} if self._key(name) in kept else KEEPS_LAST for name in names}
        silent = set(announced) - {name_of(each.name) for each in found if each.settings.notify_presence}
        wanted |= {name: {**wanted[name], **ANNOUNCED} for name in silent}
        if missing := {name: settings for name, settings in wanted.items() if settings}:
            await self._service.configure(missing)

    async def of(self, channel: str, keep_s: float) -> KeptMessage | None:
        """Return the last message of a channel that keeps it; None if it is older than `keep_s` seconds.

        Raises:
            Unavailable: the engine is out of reach.
        """
        found = await self._service.channels([channel], with_users=False)
        entries = reversed(found[0].history.entries) if found else iter(())
        messages = ((each, each.event) for each in entries if isinstance(each.event, Message))
        entry, message = next(messages, (None, None))
        now_s = self._service.clock.wall()
        if entry is None or message is None or message.timestamp <= stamp(now_s - keep_s):
            return None
        sent_s = datetime.fromisoformat(f"{message.timestamp}+00:00").timestamp()
        return KeptMessage(message, entry.shard, entry.offset, min(keep_s, keep_s - (now_s - sent_s)))

    def report_missed(self, channel: str) -> None:
        """Report to webhooks that a client has found no last message in a channel that keeps it."""
        self._service.node.reports.cache_missed(self._key(channel))
