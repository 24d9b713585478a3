"""The shards of the log together: which one has what, and calls to several at once."""

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from channelstream.core.position import Offsets, shard_of, with_offset
from channelstream.core.user import TOO_MANY_BYTES, TOO_MANY_KEYS
from channelstream.engines.base import UserChange
from channelstream.engines.redis import codec
from channelstream.engines.redis.shard import Shard
from channelstream.errors import Invalid, Unavailable

MAX_PENDING_STATE = 10_000
"""Users whose changed state may wait for a shard that is out of reach."""

REFUSED_STATES = {b"full": TOO_MANY_KEYS, b"large": TOO_MANY_BYTES}
"""What is said where the script refuses a state."""

T = TypeVar("T")


class Shards:
    """All shards, in their order."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards

    def __iter__(self) -> Iterator[Shard]:
        return iter(self._shards)

    def __len__(self) -> int:
        return len(self._shards)

    @property
    def epochs(self) -> tuple[str, ...]:
        return tuple(shard.epoch for shard in self._shards)

    @property
    def offsets(self) -> Offsets:
        """Up to where this node was handed what concerns it."""
        return tuple(shard.offset for shard in self._shards)

    def at(self, name: str) -> Shard:
        """Return the shard of a channel, a user, or of a connection's id."""
        return self._shards[shard_of(name, len(self._shards))]

    def by_index(self, index: bytes | int) -> Shard:
        return self._shards[int(index)]

    def split(self, names: Iterable[str]) -> dict[Shard, list[str]]:
        parts: dict[Shard, list[str]] = {}
        for name in names:
            parts.setdefault(self.at(name), []).append(name)
        return parts

    def replay_origin(self, shard: Shard) -> codec.Origin:
        """Return where entries come from that are read from a shard's log: of the others nothing is said."""
        return codec.Origin(self.epochs, (0,) * len(self._shards), shard.index)

    def live_origin(self, shard: int) -> codec.Origin:
        """Return where entries come from that this node is handed now."""
        return codec.Origin(self.epochs, self.offsets, shard)

    async def state_for(self, user: str, shards: Iterable[Shard], **joining: Any) -> bytes:
        """Return a user's state for shards that are not its own, which are told of its changes from then on.

        Args:
            joining: what to note of the connection that joins, where its id lies in the same shard as the user.
        """
        home = self.at(user)
        away = [str(shard.index) for shard in shards if shard is not home]
        state: bytes = await home.call("copy", user=user, shards=away, **joining) if away else b""
        return state

    async def propagate(self, home: Shard, answer: Any) -> UserChange:
        """Read an answer about a user's state, and pass it on to the other shards that need it.

        Raises:
            Invalid: the state would have too many keys or bytes; it has not changed.
        """
        refusal = refusal_in(answer)
        if refusal is not None:
            raise Invalid({"user_state": [refusal]})
        fields, changed, offset, state, copies, is_announcing = answer
        user = codec.read_user(fields)
        if is_announcing:
            await home.send_paced("tell", user=user.name)
        others = [self.by_index(index) for index in copies.split()]
        await gather_all(self._send_state(shard, user.name, state) for shard in others)
        return UserChange(
            user, codec.read_changed(changed), with_offset(self.offsets, home.index, int(offset))
        )

    async def _send_state(self, shard: Shard, user: str, state: bytes) -> None:
        """Tell a shard of a change; one that is out of reach hears of it when it is back.

        Raises:
            Unavailable: it is out of reach, and as many changes wait for it as may.
        """
        try:
            await shard.send_paced("follow_state", user=user, blob=state)
        except Unavailable:
            if len(shard.pending_state) >= MAX_PENDING_STATE:
                raise
            shard.pending_state.add(user)


def refusal_in(answer: Any) -> str | None:
    """Return why the script has refused a state; None: it has not."""
    return REFUSED_STATES.get(answer) if isinstance(answer, bytes) else None


async def gather_all(work: Iterable[Awaitable[T]]) -> list[T]:
    """Do all of it at once; when all has ended, raise the first error there was.

    A single piece, which is all there is where the log has one shard, needs no tasks.
    """
    pieces = list(work)
    if len(pieces) == 1:
        return [await pieces[0]]
    results: list[T] = []
    for each in await asyncio.gather(*pieces, return_exceptions=True):
        if isinstance(each, BaseException):
            raise each
        results.append(each)
    return results
