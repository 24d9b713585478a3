"""The nonces of signed requests, each of which counts once for its key."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice

from channelstream.errors import BadSignature, TooManyRequests, Unavailable

KEPT_NONCES = 500_000
"""Nonces kept for one key, in about 60 MB. At the default `signature_max_age_s` they are 8,000 calls a second."""
SLOTS = 8
"""Parts of the window that are forgotten at once; more of them forget sooner, and take longer to search."""
ROUNDED_S = 1
"""Times of signatures are whole seconds, rounded down."""


Row = tuple[str, int, list[str]]
"""A key, the latest time of these nonces, and the nonces; or no key, the time of `begin`, and none."""


class Nonces:
    """Remembers the nonces of valid requests for as long as their signatures are accepted.

    A stranger cannot fill it: only nonces of valid signatures are added. A key that fills its part is refused until the
    oldest are forgotten; other keys have parts of their own.

    A process that starts knows no nonces of the one before it, unless that has handed them over (`rows`, `restore`) or all
    nodes share them; and what nodes share may be lost. So it refuses what was signed before that.
    """

    def __init__(self, max_age_s: float, max_ahead_s: float, kept: int = KEPT_NONCES) -> None:
        """Create an empty memory.

        Args:
            max_age_s: how old a signature may be.
            max_ahead_s: how far in the future it may be.
            kept: nonces of one key.
        """
        self._max_age_s = max_age_s
        self._max_ahead_s = max_ahead_s
        self._kept = kept
        self._slot_s = (max_age_s + max_ahead_s + ROUNDED_S) / SLOTS
        self._keys: defaultdict[str, dict[int, set[str]]] = defaultdict(dict)
        """The nonces of each key by the slot of their signatures' time."""
        self._oldest_slot = 0
        self._begun_s = 0

    def begin(self, now_s: float) -> None:
        """Refuse what was signed before the second of this time: its nonce may be forgotten."""
        self._begun_s = int(now_s)

    def check_begun(self, signed_s: int, now_s: float) -> None:
        """Refuse a signature of a time before `begin`.

        Where the clock was set back since, by more than a signature lives, the beginning is the present: a machine may start
        with a clock that is hours ahead, and all calls would be refused for these hours.

        Raises:
            Unavailable: with the time after which a new signature is accepted, by the clock of the signer.
        """
        if now_s < self._begun_s - self._max_age_s:
            self.begin(now_s)
        if signed_s < self._begun_s:
            raise Unavailable(
                "What was signed before this moment is not known any more; sign the call again.",
                self._begun_s - signed_s,
            )

    def is_timely(self, signed_s: int, now_s: float) -> bool:
        """Whether a signature of this time is accepted now."""
        return -self._max_ahead_s <= now_s - signed_s <= self._max_age_s + ROUNDED_S

    def left_s(self, signed_s: int, now_s: float) -> float:
        """Return for how many seconds a signature of this time is still accepted."""
        return signed_s + self._max_age_s + ROUNDED_S - now_s

    def check(self, key_id: str, nonce: str) -> None:
        """Refuse a nonce that has been added.

        Raises:
            BadSignature: it has.
        """
        if key_id in self._keys and any(nonce in slot for slot in self._keys[key_id].values()):
            raise BadSignature

    def add(self, key_id: str, nonce: str, signed_s: int, now_s: float) -> None:
        """Remember the nonce of a valid signature.

        Raises:
            BadSignature: it has been added before.
            TooManyRequests: the key has too many nonces in the window.
        """
        self._forget(now_s)
        self.check(key_id, nonce)
        slots = self._keys[key_id]
        if sum(map(len, slots.values())) >= self._kept:
            raise TooManyRequests(f"This key signs more than {self._kept} calls in signature_max_age_s.")
        slots.setdefault(self._slot(signed_s), set()).add(nonce)

    def _slot(self, signed_s: float) -> int:
        return int(signed_s / self._slot_s)

    def _forget(self, now_s: float) -> None:
        """Drop the slots of which no signature is accepted any more."""
        oldest = self._slot(now_s - self._max_age_s - ROUNDED_S)
        if oldest == self._oldest_slot:
            return
        self._oldest_slot = oldest
        for key_id, slots in list(self._keys.items()):
            for slot in [slot for slot in slots if slot < oldest]:
                del slots[slot]
            if not slots:
                del self._keys[key_id]

    def rows(self, count: int) -> Iterator[Row]:
        """Yield all nonces for another process, at most so many in a row, and first the time of `begin`."""
        if self._begun_s:
            yield "", self._begun_s, []
        for key_id, slots in self._keys.items():
            for slot, nonces in slots.items():
                rest = iter(nonces)
                while some := list(islice(rest, count)):
                    yield key_id, int((slot + 1) * self._slot_s), some

    def restore(self, rows: Iterable[Row]) -> None:
        """Take nonces of another process, whose window may be another one."""
        for key_id, signed_s, nonces in rows:
            if not nonces:
                self._begun_s = signed_s
                continue
            self._keys[key_id].setdefault(self._slot(signed_s), set()).update(nonces)
