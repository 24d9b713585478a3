"""The private messages that pages load when they connect: your application has them in its database, this one in memory."""

from dataclasses import dataclass
from typing import Any

from channelstream.demo.visitors import Visitor
from channelstream.pages.bounded import Bounded

KEPT = 1_000
"""Most private messages of all visitors: 8 MB, if each has as many bytes as it can have. The oldest is forgotten."""
LOADED = 50
"""Most messages that a page loads: the newest ones of its visitor."""


@dataclass(frozen=True)
class Kept:
    """A message as the push server has answered it, and who may read it.

    Attributes:
        readers: visitors and not only names, since a name can have another visitor later.
    """

    event: dict[str, Any]
    readers: frozenset[Visitor]


class PrivateMessages:
    """The latest private messages, by uuid."""

    def __init__(self) -> None:
        self._kept: Bounded[str, Kept] = Bounded(KEPT)

    def add(self, event: dict[str, Any], readers: frozenset[Visitor]) -> None:
        self._kept[event["uuid"]] = Kept(event, readers)

    def amend(self, event: dict[str, Any]) -> None:
        """Take over an edit. It leaves the message at its place, and does not bring back a forgotten one."""
        if kept := self._kept.get(event["uuid"]):
            kept.event.update(message=event["message"], edited=event.get("edited"))

    def remove(self, uuid: str) -> None:
        self._kept.pop(uuid, None)

    def of(self, visitor: Visitor) -> list[dict[str, Any]]:
        """Return what the visitor has sent and received, oldest first."""
        return [kept.event for kept in self._kept.values() if visitor in kept.readers][-LOADED:]
