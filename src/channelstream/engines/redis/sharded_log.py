"""The log on Redis: which shards publish and read, and how their answers are combined.

- `publish` splits an event by the shards of its recipients. When one fails, the others may have accepted their part. The
  caller repeats the whole list with the same uuids, and the parts that were accepted are duplicates.
- `replay` and `head` combine one offset for each shard. For a shard that was not asked, or is out of reach, they use what
  this node was delivered, which is never too high.
"""

from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from heapq import merge
from typing import Any

from channelstream.core.accepted import Accepted, combined
from channelstream.core.entry import Entry
from channelstream.core.events import Event
from channelstream.core.log import PRIVATE, Replay
from channelstream.core.position import Position, with_offset
from channelstream.engines.event_codec import UnreadableEvent
from channelstream.engines.redis import event_text
from channelstream.engines.redis.delivery import Delivery
from channelstream.engines.redis.event_parts import next_events, parts_of
from channelstream.engines.redis.shard import Shard
from channelstream.engines.redis.shard_log import Logs
from channelstream.engines.redis.shards import Shards, gather_all
from channelstream.engines.user_groups import by_users
from channelstream.errors import Unavailable


class _Outcome(Enum):
    """The answers of the script to a published event, or to a part of it."""

    ACCEPTED = b"accepted"
    NOBODY = b"nobody"
    FOUND = b"found"
    REPEATED = b"repeated"
    DELETED = b"deleted"


class ShardedLog:
    """The methods of `EventLog` that ask shards."""

    def __init__(self, shards: Shards, delivery: Delivery) -> None:
        self._shards = shards
        self._delivery = delivery

    async def head(self, names: Iterable[str] | None = None, all_shards: bool = False) -> Position:
        needed = set(self._shards if names is None else self._shards.split(names))
        asked = list(self._shards if all_shards or len(self._shards) == 1 else needed)
        # Of before the calls: offsets of a log that is replaced meanwhile mean nothing in the new one.
        epochs, offsets = self._shards.epochs, self._shards.offsets
        heads = await gather_all(self._head(shard, shard in needed) for shard in asked)
        for shard, head in zip(asked, heads, strict=True):
            offsets = with_offset(offsets, shard.index, head)
        return Position(epochs, offsets)

    async def _head(self, shard: Shard, is_needed: bool) -> int:
        try:
            return int(await shard.client.call("head"))
        except Unavailable:
            if is_needed:
                raise
            return self._shards.offsets[shard.index]

    async def publish(self, events: Sequence[Event]) -> list[Accepted]:
        batches: dict[Shard, list[tuple[int, Event]]] = {}
        for number, event in enumerate(events):
            for shard, part in parts_of(event, self._shards):
                batches.setdefault(shard, []).append((number, part))
        answers: list[list[Sequence[bytes]]] = [[] for _ in events]
        published = [self._publish(shard, batch) for shard, batch in batches.items()]
        for batch, replies in zip(batches.values(), await gather_all(published), strict=True):
            for (number, _), answer in zip(batch, replies, strict=True):
                answers[number].append(answer)
        return [
            combined(event, [_outcome(event, answer) for answer in replies])
            for event, replies in zip(events, answers, strict=True)
        ]

    async def _publish(self, shard: Shard, batch: Sequence[tuple[int, Event]]) -> Sequence[Any]:
        """Publish in a shard, in as many calls as it takes; nothing after a failed call is published."""
        answers: list[Any] = []
        while len(answers) < len(batch):
            answers += await shard.log.publish(next_events(batch, len(answers)))
        return answers

    async def divide(self, event: Event) -> AsyncIterator[Event]:
        """Divide it into any groups: in the log of each user an event gets its own form."""
        for part in by_users(event, event.only or ()):
            yield part

    async def replay(self, user: str, from_offsets: Mapping[str, int], limit: int) -> Replay:
        names: dict[Shard, list[str]] = {} if from_offsets else {shard: [] for shard in self._shards}
        for name in from_offsets:
            names.setdefault(self._shards.at(user if name == PRIVATE else name), []).append(name)
        logs = {
            shard: _logs(user, {name: from_offsets[name] for name in batch}) for shard, batch in names.items()
        }
        # Nothing is missing in a shard that is not asked.
        read_to = head = self._shards.offsets
        found: list[list[Entry]] = []
        lost: set[str] = set()
        epochs, skipped = self._shards.epochs, self._delivery.skipped
        replies = await gather_all(shard.log.replay(batch, limit) for shard, batch in logs.items())
        for (shard, batch), (last, read, lost_numbers, entries) in zip(names.items(), replies, strict=True):
            head, read_to = with_offset(head, shard.index, last), with_offset(read_to, shard.index, read)
            lost |= {batch[number - 1] for number in lost_numbers}
            origin, epoch = self._shards.replay_origin(shard), epochs[shard.index]
            found.append(self._delivery.readable(origin, entries))
            if len(found[-1]) < len(entries):
                for offset, names_of_it in _unreadable(batch, entries):
                    skipped.add(epoch, [_place(user, name) for name in names_of_it], offset)
            if skipped:
                lost |= {
                    name for name in batch if skipped.has_after(epoch, _place(user, name), from_offsets[name])
                }
        return Replay(list(merge(*found, key=_at_s)), frozenset(lost), read_to, head)

    async def catch_up(self, shards: Iterable[int]) -> None:
        await gather_all(self._shards.by_index(shard).log.replay([], 0) for shard in shards)


def _outcome(event: Event, answer: Sequence[bytes]) -> Accepted:
    """Return the outcome of an event by the answer to a part of it."""
    match _Outcome(answer[0]):
        case _Outcome.ACCEPTED:
            return Accepted(event, duplicate=False, found=False)
        case _Outcome.NOBODY:
            return Accepted(event, duplicate=False, found=False, reaches_nobody=True)
        case _Outcome.FOUND:
            return Accepted(event, duplicate=False, found=True)
        case _Outcome.REPEATED:
            return Accepted(_known_form(event, answer[1:]), duplicate=True, found=True)
        case _Outcome.DELETED:
            return Accepted(event, duplicate=True, found=False)


def _known_form(event: Event, form: Sequence[bytes]) -> Event:
    """Return the current form of a message that is published again; the message if no form is known."""
    try:
        return event_text.read_event(*form) if form else event
    except UnreadableEvent:
        return event


def _unreadable(
    names: Sequence[str], entries: Iterable[Sequence[bytes]]
) -> Iterator[tuple[int, Collection[str]]]:
    """Yield the offset of each entry that this version cannot read, with the logs that have it: all if none is known."""
    for offset, _, text, *payload in entries:
        try:
            event_text.read_event(text, *payload)
        except UnreadableEvent:
            shown = {PRIVATE if kind == "u" else name for kind, name in event_text.logs_of(text)}
            yield int(offset), shown.intersection(names) or names


def _place(user: str, name: str) -> event_text.Place:
    """Return the log of a channel, or of the private messages of a user."""
    return ("u", user) if name == PRIVATE else ("c", name)


def _at_s(entry: Entry) -> float:
    return entry.at_s


def _logs(user: str, from_offsets: Mapping[str, int]) -> Logs:
    return [(*_place(user, name), start) for name, start in from_offsets.items()]
