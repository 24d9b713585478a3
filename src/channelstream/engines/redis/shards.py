"""All shards of the log: which shard has which name, and calls to several shards at once.

Nothing is atomic over two shards. A user's state lives in one shard, its home, and is copied to the shards of the user's
channels, each copy with its version. A shard that is out of reach when the state changes is remembered
(`Shard.pending_state`) and receives the newest state when it is back, so that at most one state per user waits. Where
even that is too much, the change is refused.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from channelstream.core.position import Offsets, shard_of, with_offset
from channelstream.core.user import TOO_MANY_BYTES, TOO_MANY_KEYS, UserChange
from channelstream.engines.redis import codec, event_text
from channelstream.engines.redis.delivery import Delivery
from channelstream.engines.redis.shard import Shard
from channelstream.errors import Invalid, Unavailable

MAX_PENDING_STATE = 10_000
"""Users whose changed state may wait for a shard that is out of reach; more changes raise `Unavailable`."""

REFUSED_STATES = {b"full": TOO_MANY_KEYS, b"large": TOO_MANY_BYTES}
"""Error texts for the refusals of the script."""

T = TypeVar("T")


class Shards:
    """All shards, in the order of their index."""

    def __init__(self, shards: Sequence[Shard], delivery: Delivery) -> None:
        self._shards = shards
        self._delivery = delivery

    def __iter__(self) -> Iterator[Shard]:
        return iter(self._shards)

    def __len__(self) -> int:
        return len(self._shards)

    @property
    def epochs(self) -> tuple[str, ...]:
        return self._delivery.epochs

    @property
    def offsets(self) -> Offsets:
        """The offsets up to which this node was delivered everything."""
        return self._delivery.offsets

    def at(self, name: str) -> Shard:
        """Return the shard of a channel, a user or a connection id."""
        return self._shards[shard_of(name, len(self._shards))]

    def by_index(self, index: bytes | int) -> Shard:
        return self._shards[int(index)]

    def split(self, names: Iterable[str]) -> dict[Shard, list[str]]:
        parts: dict[Shard, list[str]] = {}
        for name in names:
            parts.setdefault(self.at(name), []).append(name)
        return parts

    def replay_origin(self, shard: Shard) -> event_text.Origin:
        """Return the origin of entries read from a shard's log: their positions have offset 0 in all other shards.

        A position must not promise what was not read; `core.entry.advance_positions` raises them to those of the client.
        """
        return event_text.Origin(self.epochs, (0,) * len(self._shards), shard.index)

    async def state_for(self, user: str, shards: Iterable[Shard], **joining: Any) -> bytes:
        """Return a user's state for other shards than its home; these receive every later change.

        Args:
            joining: the arguments that list these shards in the directory of the joining connection, where that lies in
                the home shard, too.
        """
        home = self.at(user)
        away = [str(shard.index) for shard in shards if shard is not home]
        state: bytes = await home.client.call("copy", user=user, shards=away, **joining) if away else b""
        return state

    async def propagate(self, home: Shard, answer: Any) -> UserChange:
        """Read the answer to a change of a user's state, and send the state to the shards that have a copy.

        Raises:
            Invalid: the state would have too many keys or bytes; it has not changed.
        """
        check_state(answer)
        fields, changed, offset, state, copies, is_announcing = answer
        user = codec.read_user(fields)
        if is_announcing:
            await home.client.send_paced("tell", user=user.name)
        others = [self.by_index(index) for index in copies.split()]
        await gather_all(self._send_state(shard, user.name, state) for shard in others)
        return UserChange(
            user, codec.read_changed(changed), with_offset(self.offsets, home.index, int(offset))
        )

    async def _send_state(self, shard: Shard, user: str, state: bytes) -> None:
        """Send a changed state to a shard; one that is out of reach receives it when it is back.

        Raises:
            Unavailable: it is out of reach, and `MAX_PENDING_STATE` users wait for it.
        """
        try:
            await shard.client.send_paced("follow_state", user=user, blob=state)
        except Unavailable:
            if len(shard.pending_state) >= MAX_PENDING_STATE:
                raise
            shard.pending_state.add(user)


def check_state(answer: Any) -> None:
    """Raise Invalid if the script has refused a state."""
    if isinstance(answer, bytes) and answer in REFUSED_STATES:
        raise Invalid({"user_state": [REFUSED_STATES[answer]]})


async def gather_all(work: Iterable[Awaitable[T]]) -> list[T]:
    """Run all of it concurrently; when all has ended, return the results or raise the first error.

    A single piece, as with a log of one shard, runs without a task.
    """
    pieces = list(work)
    if len(pieces) == 1:
        return [await pieces[0]]
    results, failures = results_and_errors(await asyncio.gather(*pieces, return_exceptions=True))
    if failures:
        raise failures.pop(0)
    return results


def results_and_errors(outcomes: Iterable[T | BaseException]) -> tuple[list[T], list[BaseException]]:
    """Return the results and the errors among what `asyncio.gather` has returned."""
    results, failures = list[T](), list[BaseException]()
    for each in outcomes:
        if isinstance(each, BaseException):
            failures.append(each)
        else:
            results.append(each)
    return results, failures
