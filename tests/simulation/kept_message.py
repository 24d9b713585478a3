"""What a log must have of one message, by what was accepted while the log existed."""

from collections.abc import Collection
from typing import Any

from tests.simulation.failure import demand

from channelstream.core.accepted import Accepted
from channelstream.core.events import Event, Message, MessageDeleted, MessageEdited
from channelstream.core.log import Log


class KeptMessage:
    """A message of one text, all of whose edits have another one, in a log that drops nothing."""

    def __init__(self, edited: bytes | None) -> None:
        """Begin with a log that has nothing about the message.

        Args:
            edited: the text of every edit.
        """
        self._edited = edited
        self._payloads: list[Any] = []
        self._accepted: set[type[Event]] = set()

    def add(self, event: Event) -> None:
        """Note an event about the message that the log has accepted."""
        if isinstance(event, Message):
            is_known = bool(self._accepted & {Message, MessageDeleted})
            demand(not is_known, "accepted twice, or after its deletion:", event.uuid)
            self._payloads = [self._edited if MessageEdited in self._accepted else event.payload]
        elif isinstance(event, MessageEdited):
            self._payloads = [self._edited for _ in self._payloads]
        elif isinstance(event, MessageDeleted):
            self._payloads = []
        self._accepted.add(type(event))

    def check(self, log: Log) -> None:
        """Check that the log has the message in its present form, once, or not at all."""
        kept = [entry.event.payload for entry in log.entries if isinstance(entry.event, Message)]
        demand(kept == self._payloads, "the log has the message as", kept, "instead of", self._payloads)

    def check_answers(self, answers: Collection[Accepted]) -> None:
        """Check that the log has accepted what was answered so; all of it was published when the log existed."""
        for answer in answers:
            is_here = answer.duplicate or type(answer.event) in self._accepted
            demand(is_here, "answered and not in the log:", answer.event)
